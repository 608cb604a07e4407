//! The page: verdict and reason on top, then what was seen, then how it was judged.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use shiftgate::recording::{Bad, Traffic};
use shiftgate::report::Evidence;
use shiftgate::report::evidence::{Background, Event};
use shiftgate::verdict::{Answer, ByChance, Finding, Outcome, one_in, sign};

use crate::charts;
use crate::links::links;

const STYLE: &str = include_str!("page.css");

/// Evidence as an HTML page: complete in itself, without scripts, readable in light and dark, on a phone and on paper.
pub fn page(evidence: &Evidence) -> String {
    let title = format!("{} {}", evidence.name(), evidence.headline());
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header class=(colour(evidence)) { (verdict(evidence)) }
                main {
                    (findings(&evidence.findings))
                    @if let Some(rollout) = &evidence.rollout { (what_happened(rollout)) }
                    (doubts(evidence))
                    @if let Some(rollout) = &evidence.rollout {
                        (lifecycle(&rollout.lifecycle, evidence.at))
                        (policy(rollout, evidence.policy.as_deref()))
                    }
                    (console(evidence))
                }
                footer {
                    p { "Shiftgate, evidence version " (evidence.version) ", drawn " (time(evidence.at)) " in " (evidence.duration_ms) " ms." }
                }
            }
        }
    };
    document.into_string()
}

/// Which of the three colours the verdict has.
fn colour(evidence: &Evidence) -> &'static str {
    match (evidence.answer, evidence.would_have_rolled_back, evidence.outcome) {
        (Answer::Failed, ..) => "bad",
        (Answer::Succeeded, true, _) | (Answer::Succeeded, false, Outcome::Inconclusive | Outcome::Fail) => {
            "unsure"
        }
        (Answer::Succeeded, false, Outcome::Pass) => "good",
    }
}

fn verdict(evidence: &Evidence) -> Markup {
    html! {
        p.about { (evidence.name()) " · " (evidence.stage) " · " (time(evidence.at)) }
        h1 { (capital(evidence.headline())) }
        p.reason { (evidence.reason) }
        p.next { strong { "Next: " } (evidence.next_step) }
        dl.facts {
            div { dt { "Deployment" } dd { code { (evidence.deployment_id) } } }
            @if let Some(configuration) = &evidence.configuration {
                div { dt { "Configuration" } dd { (configuration) } }
            }
            @if let Some(rollout) = &evidence.rollout {
                @if let Some(weight) = rollout.weight {
                    div { dt { "Green's share" } dd { (format!("{weight:.0} %")) } }
                }
            }
            div { dt { "Answer" } dd { (evidence.answer.as_str()) " (" (evidence.outcome) ")" } }
            div { dt { "Policy" } dd { (evidence.policy.as_deref().unwrap_or("not read")) } }
        }
    }
}

/// The worst first: whoever is on call looks at the top.
fn findings(findings: &[Finding]) -> Markup {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse((finding.outcome, finding.fault.is_some())));
    html! {
        section aria-labelledby="seen" {
            h2 id="seen" { "What was seen" }
            @if sorted.is_empty() { p { "Nothing was checked." } }
            ul.findings {
                @for finding in sorted { (one(finding)) }
            }
        }
    }
}

fn one(finding: &Finding) -> Markup {
    let (class, word) = match (finding.outcome, &finding.fault) {
        (_, Some(_)) => ("unsure", "not checked"),
        (Outcome::Pass, None) => ("good", "pass"),
        (Outcome::Inconclusive, None) => ("unsure", "not told apart"),
        (Outcome::Fail, None) => ("bad", "fail"),
    };
    html! {
        li class=(class) {
            p.check { span.mark { (word) } " " strong { (finding.check) } }
            p { (finding.summary) }
            @if finding.value.is_some() || finding.by_chance.is_some() {
                p.numbers {
                    @if let Some(value) = finding.value { span { "green " b { (value.to_string()) } } }
                    @if let Some(blue) = finding.blue { span { "blue " b { (blue.to_string()) } } }
                    @if let Some(limit) = finding.limit { span { "limit " b { (limit.to_string()) } } }
                    @if let Some(samples) = finding.samples { span { "of " b { (samples) } " requests" } }
                    @if let Some(by_chance) = finding.by_chance { span { (chance(by_chance)) } }
                }
            }
            @if let Some(fault) = &finding.fault { p.hint { "What to do: " (fault.hint) } }
            @for caveat in &finding.caveats { p.caveat { "But: " (caveat.to_string()) } }
        }
    }
}

fn chance(by_chance: ByChance) -> String {
    format!("by chance: {} (fails from {} on)", sign(by_chance.chance), one_in(by_chance.allowed))
}

fn what_happened(rollout: &Background) -> Markup {
    html! {
        @if let Some(traffic) = &rollout.recording {
            section aria-labelledby="minutes" {
                h2 id="minutes" { (capital(&unit(traffic, true))) " before and since the shift began" }
                p.legend { span.blue { "blue, the old version" } " " span.green { "green, the new version" } }
                div.charts {
                    (counts(traffic, None))
                    @for bad in Bad::ALL.into_iter().filter(|bad| bad.known_from(traffic).is_some()) { (counts(traffic, Some(bad))) }
                }
            }
            @if !rollout.comparisons.is_empty() { (evidence(rollout, traffic)) }
        }
    }
}

/// All requests, or the bad ones of a kind.
fn counts(traffic: &Traffic, bad: Option<Bad>) -> Markup {
    let [blue, green] = charts::per_minute(traffic, bad);
    let total = |counts: &[Option<f64>]| counts.iter().flatten().sum::<f64>();
    let told = format!(
        "{} a {}: blue {:.0} in all, green {:.0}",
        bad.map_or_else(|| "requests".to_owned(), |bad| bad.name().replace('_', " ")),
        unit(traffic, false),
        total(&blue),
        total(&green)
    );
    // A line of zeros says nothing that its caption does not.
    let nothing_bad = bad.is_some() && total(&blue) + total(&green) == 0.0;
    html! {
        figure {
            @match charts::counts(traffic, bad).filter(|_| !nothing_bad) {
                Some(svg) => (picture(&svg, &told)),
                None => p.none { "none" },
            }
            figcaption { (capital(&told)) }
        }
    }
}

fn evidence(rollout: &Background, traffic: &Traffic) -> Markup {
    html! {
        section aria-labelledby="evidence" {
            h2 id="evidence" { "Evidence against its limit" }
            p { "How rarely a release as good as blue would look as bad, after each " (unit(traffic, false)) ". The dashed line is where green is rolled back." }
            div.charts {
                @for comparison in &rollout.comparisons {
                    @if let Some(svg) = charts::evidence(comparison) {
                        @let last = comparison.chances.iter().flatten().copied().reduce(f64::min);
                        @let told = format!(
                            "{}: {}; fails from {} on",
                            comparison.name,
                            last.map_or_else(|| "nothing seen".to_owned(), sign),
                            one_in(comparison.limit)
                        );
                        figure { (picture(&svg, &told)) figcaption { (capital(&told)) } }
                    }
                }
            }
        }
    }
}

/// A chart, with its caption for who does not see it.
fn picture(svg: &str, told: &str) -> Markup {
    html! { div.chart role="img" aria-label=(told) { (PreEscaped(svg)) } }
}

fn doubts(evidence: &Evidence) -> Markup {
    html! {
        @if !evidence.caveats.is_empty() {
            section aria-labelledby="doubts" {
                h2 id="doubts" { "What may mislead" }
                ul { @for caveat in &evidence.caveats { li { (caveat.to_string()) } } }
            }
        }
    }
}

fn lifecycle(events: &[Event], now: Timestamp) -> Markup {
    html! {
        @if !events.is_empty() {
            section aria-labelledby="lifecycle" {
                h2 id="lifecycle" { "Lifecycle" }
                table {
                    thead { tr { th scope="col" { "event" } th scope="col" { "status" } th scope="col" { "began (UTC)" } th scope="col" { "took" } } }
                    tbody {
                        @for event in events {
                            tr {
                                th scope="row" { (event.name) }
                                td { (event.status) }
                                td { @if let Some(began) = event.began { (began.strftime("%H:%M:%S").to_string()) } }
                                td { @if let Some(began) = event.began { (lasted(began, event.ended.unwrap_or(now))) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn policy(rollout: &Background, source: Option<&str>) -> Markup {
    html! {
        section aria-labelledby="policy" {
            h2 id="policy" { "Policy in force" }
            p { "From " (source.unwrap_or("the built-in defaults")) "." }
            pre tabindex="0" { (rollout.plan.join("\n")) }
        }
    }
}

fn console(evidence: &Evidence) -> Markup {
    let links = links(evidence);
    html! {
        @if !links.is_empty() {
            section aria-labelledby="console" {
                h2 id="console" { "In the AWS console" }
                ul { @for link in &links { li { a href=(link.url) { (link.name) } } } }
            }
        }
    }
}

/// What a period of a recording is called.
fn unit(traffic: &Traffic, several: bool) -> String {
    match (traffic.period_seconds.get(), several) {
        (60, false) => "minute".to_owned(),
        (60, true) => "minutes".to_owned(),
        (seconds, false) => format!("period of {seconds} s"),
        (seconds, true) => format!("periods of {seconds} s"),
    }
}

/// To the second, in UTC.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn lasted(began: Timestamp, ended: Timestamp) -> String {
    let seconds = ended.duration_since(began).as_secs();
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(change: impl FnOnce(&mut serde_json::Value)) -> Evidence {
        let mut value = serde_json::json!({
            "version": 1, "at": "2026-11-24T10:07:00Z", "stage": "watch", "deployment_id": "d-0B7YUA91L",
            "controller": "codedeploy", "region": "eu-west-1", "application": "shop", "deployment_group": "orders",
            "configuration": "CodeDeployDefault.ECSCanary10Percent15Minutes", "policy": "built-in defaults",
            "outcome": "fail", "answer": "Failed", "would_have_rolled_back": false,
            "reason": "server errors: green 5.3 %", "next_step": "Look at the logs.",
            "findings": [
                {"check": "task count", "outcome": "pass", "summary": "2 of 2 tasks run"},
                {"check": "server errors", "outcome": "fail", "summary": "green 5.3 %", "value": {"value": 0.053, "unit": "share"},
                 "by_chance": {"chance": 0.0001, "allowed": 0.0045}},
            ],
            "caveats": [],
            "rollout": {
                "service": "orders", "mode": "enforce", "weight": 10.0, "steps": [{"share": 0.1, "seconds": 900}],
                "plan": ["mode: enforce"],
                "lifecycle": [{"name": "AllowTraffic", "status": "in progress", "began": "2026-11-24T10:00:00Z", "ended": null}],
                "recording": {"version": 1, "kind": "traffic", "period_seconds": 60,
                    "history": [{"requests": 990, "server_errors": 1}],
                    "minutes": [{"blue": {"requests": 900, "server_errors": 0}, "green": {"requests": 100, "server_errors": 5}}]},
                "comparisons": [{"name": "server errors", "limit": 0.0045, "chances": [0.0001]}],
            },
            "log_group": "/aws/lambda/CodeDeployHook_shiftgate_watch", "duration_ms": 40,
        });
        change(&mut value);
        Evidence::from_log(value, None).unwrap()
    }

    /// The text of a page: what is between its tags, without style and charts.
    fn text(page: &str) -> String {
        let body = page.split_once("<body>").unwrap().1;
        let mut text = String::new();
        let mut charts = body.split("<svg");
        text.push_str(charts.next().unwrap_or_default());
        charts.for_each(|rest| text.push_str(rest.split_once("</svg>").unwrap().1));
        let pieces = text.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text.trim());
        pieces.filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_page_tells_the_verdict_first_and_then_why() {
        insta::assert_snapshot!(text(&page(&evidence(|_| {}))));
    }

    #[test]
    fn what_a_service_says_is_text_and_no_markup() {
        let page = page(&evidence(|value| value["reason"] = "<script>alert(1)</script>".into()));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&evidence(|_| {}));
        for fetched in ["src=", "url(", "@import", "<link", "<script"] {
            assert!(!page.contains(fetched), "the page has `{fetched}`");
        }
    }

    #[test]
    fn a_release_of_which_nothing_is_known_has_a_page() {
        let bare = page(&evidence(|value| {
            for key in ["rollout", "application", "region", "log_group", "policy"] {
                value[key] = serde_json::Value::Null;
            }
            value["findings"] = serde_json::json!([]);
        }));
        assert!(bare.contains("Nothing was checked."));
    }
}
