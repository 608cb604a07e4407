//! The report that people read.

use std::fmt::Write;

use super::Evidence;
use crate::verdict::{ByChance, Finding, one_in, sign};

/// Evidence as Markdown: the answer with its reason and what to do, a table of all findings, and the caveats.
pub fn markdown(evidence: &Evidence) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, evidence);
    text
}

fn write(text: &mut String, verdict: &Evidence) -> std::fmt::Result {
    writeln!(text, "# {}: {} ({})", verdict.stage, verdict.answer.as_str(), verdict.outcome)?;
    writeln!(text, "\n**{}**\n", verdict.reason.replace('\n', " "))?;
    writeln!(text, "{}\n", verdict.next_step)?;
    write!(text, "Deployment {}", verdict.deployment_id)?;
    if let (Some(application), Some(group), Some(configuration)) =
        (&verdict.application, &verdict.deployment_group, &verdict.configuration)
    {
        write!(text, " of {application}/{group}, configuration {configuration}")?;
    }
    match &verdict.policy {
        Some(source) => writeln!(text, ". Policy: {source}.")?,
        None => writeln!(text, ". Policy: not read.")?,
    }
    if !verdict.findings.is_empty() {
        writeln!(
            text,
            "\n| check | outcome | value | limit | blue | requests | by chance | what was seen |"
        )?;
        writeln!(text, "|---|---|---|---|---|---|---|---|")?;
        for finding in &verdict.findings {
            row(text, finding)?;
        }
    }
    budget(text, &verdict.findings)?;
    let caveats: Vec<String> = verdict
        .caveats
        .iter()
        .map(ToString::to_string)
        .chain(verdict.findings.iter().flat_map(|finding| {
            finding.caveats.iter().map(move |caveat| format!("{}: {caveat}", finding.check))
        }))
        .collect();
    list(text, "Caveats", &caveats)?;
    let hints: Vec<String> = verdict
        .findings
        .iter()
        .filter_map(|finding| {
            finding.fault.as_ref().map(|fault| format!("{}: {}", finding.check, fault.hint))
        })
        .collect();
    list(text, "What to do", &hints)
}

fn row(text: &mut String, finding: &Finding) -> std::fmt::Result {
    let shown =
        |value: Option<crate::verdict::Quantity>| value.map(|value| value.to_string()).unwrap_or_default();
    let outcome = if finding.fault.is_some() { "not checked" } else { finding.outcome.as_str() };
    writeln!(
        text,
        "| {} | {outcome} | {} | {} | {} | {} | {} | {} |",
        cell(&finding.check),
        shown(finding.value),
        shown(finding.limit),
        shown(finding.blue),
        finding.samples.map(|samples| samples.to_string()).unwrap_or_default(),
        finding.by_chance.map(chance).unwrap_or_default(),
        cell(&finding.summary),
    )
}

fn chance(by_chance: ByChance) -> String {
    format!("{} (limit {})", sign(by_chance.chance), one_in(by_chance.allowed))
}

/// How the chance of a false rollback is shared, and who has used up its part.
fn budget(text: &mut String, findings: &[Finding]) -> std::fmt::Result {
    let shares: Vec<(&str, ByChance)> =
        findings.iter().filter_map(|finding| Some((finding.check.as_str(), finding.by_chance?))).collect();
    if shares.is_empty() {
        return Ok(());
    }
    let all: f64 = shares.iter().map(|(_, by_chance)| by_chance.allowed).sum();
    let parts: Vec<String> =
        shares.iter().map(|(check, by_chance)| format!("{check} {}", one_in(by_chance.allowed))).collect();
    writeln!(
        text,
        "\nBy chance: of releases that are as good as blue, so many look as bad as this, however often one looks. It rests \
        on the time before the shift, too, and on how noisy the service is; a test on the two counts alone gives another \
        number. Together these checks roll back at most {} good releases ({}).",
        one_in(all),
        parts.join(", ")
    )
}

fn list(text: &mut String, title: &str, items: &[String]) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n## {title}\n")?;
    items.iter().try_for_each(|item| writeln!(text, "- {}", item.replace('\n', " ")))
}

/// Text that cannot break out of its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::About;
    use super::*;
    use crate::environment::Environment;
    use crate::event::{DeploymentId, Stage};
    use crate::fault::{Fault, FaultKind};
    use crate::policy::load::Source;
    use crate::verdict::{Caveat, Outcome, Quantity, Rules, conclude};

    #[test]
    fn the_report_says_what_was_seen_and_what_to_do() {
        let mut about =
            About::new(Stage::Watch, DeploymentId::new("d-0B7YUA91L").unwrap(), &Environment::default());
        about.source = Some(Source::Parameter("/shiftgate/shop/orders".into()));
        let findings = vec![
            Finding {
                value: Some(Quantity::share(0.053)),
                limit: Some(Quantity::share(0.02)),
                blue: Some(Quantity::share(0.001)),
                samples: Some(226),
                ..Finding::new("server errors", Outcome::Fail, "green 5.3 % | worst of 4\nperiods")
            },
            Finding {
                by_chance: Some(ByChance { chance: 0.3, allowed: 0.0045 }),
                ..Finding::new("connection errors", Outcome::Inconclusive, "no regression seen")
            },
            Finding::new("latency", Outcome::Pass, "fine").but(Caveat::BlueFromBefore),
            Finding::from_fault(
                "alarms",
                &Fault::new(
                    FaultKind::Denied,
                    "cannot read the alarms",
                    "allow cloudwatch:DescribeAlarms in the function's role",
                ),
            ),
        ];
        let verdict = conclude(findings, Rules::default());
        let evidence = Evidence::new(&about, &verdict, Timestamp::UNIX_EPOCH, 40);
        insta::assert_snapshot!(markdown(&evidence));
    }
}
