//! The policy that follows from what was measured. Pure.

use std::time::Duration;

use jiff::civil::Date;
use serde_json::{Value, json};
use shiftgate::judge::power::Findable;
use shiftgate::outlook;
use shiftgate::outlook::needs::{self, Course, Usual};
use shiftgate::policy::chances::Chances;
use shiftgate::policy::defaults;
use shiftgate::policy::gates::{Gate, Rule};
use shiftgate::policy::plan::Plan;
use shiftgate::rollout::Front;
use shiftgate::rollout::schedule::green_shares;
use shiftgate::verdict::Quantity;

use super::measured::{HOUR, Hour, Hours, Measured};

/// Where an editor finds what the keys are, as seen from the project's folder.
const SCHEMA: &str = "docs/policy.schema.json";
/// Width of the comments.
const WIDTH: usize = 120;
/// Minutes of bake that are tried where the default finds too little. CodeDeploy leaves time for 48.
const BAKES: [u64; 4] = [10, 20, 30, 45];

/// What the measurement gives a reason to change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Suggested {
    /// A longer bake, where the default finds too little and this enough.
    pub bake: Option<Longer>,
    /// From where on a request is slow, in milliseconds, where a minute has too few requests to tell.
    pub slow_ms: Option<u64>,
    /// Whether no bake finds enough.
    pub is_too_little: bool,
}

/// A bake that finds enough, and what the default would find.
#[derive(Debug, Clone, PartialEq)]
pub struct Longer {
    /// How long it is.
    pub lasts: Duration,
    /// The smallest regression that it finds.
    pub finds: Option<Findable>,
    /// The same of the default.
    pub by_default: Option<Findable>,
}

impl Suggested {
    /// What follows from a past; of too short a past nothing.
    pub fn from(measured: &Measured) -> Self {
        let Some(hours) = measured.hours().filter(|_| measured.is_enough()) else { return Self::default() };
        // The first comparison is the one that may spend most.
        let first = |bake: Duration| {
            let plan = plan(measured.front, bake);
            plan.traffic.iter().find_map(|gate| found_by(gate, &plan, measured, &hours.usual))
        };
        let by_default = first(defaults::BAKE).map(|found| found.smallest);
        let short = by_default.filter(|smallest| outlook::is_too_little(*smallest));
        let bake = short.and_then(|by_default| {
            BAKES.map(Duration::from_mins).into_iter().find_map(|lasts| {
                let finds = first(lasts)?.smallest;
                (!outlook::is_too_little(finds)).then_some(Longer { lasts, finds, by_default })
            })
        });
        Self { is_too_little: short.is_some() && bake.is_none(), bake, slow_ms: slow_ms(measured, &hours) }
    }

    /// Length of the bake.
    fn lasts(&self) -> Duration {
        self.bake.as_ref().map_or(defaults::BAKE, |longer| longer.lasts)
    }
}

fn plan(front: Front, bake: Duration) -> Plan {
    Plan { bake_for: bake, ..Plan::default() }.fitted(front)
}

/// A limit of what is slow, where the 99th percentile of a minute is one of too few requests, and that of an hour is not.
fn slow_ms(measured: &Measured, hours: &Hours) -> Option<u64> {
    let least = defaults::MIN_REQUESTS_FOR_PERCENTILE as f64;
    let (of_minute, of_hour) = (hours.usual.requests, hours.usual.requests * 60.0);
    let is_needed = measured.front == Front::Application && of_minute < least && of_hour >= least;
    measured.times.filter(|_| is_needed).map(|times| times.slow_ms())
}

/// What a comparison finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Name of the gate.
    pub gate: String,
    /// The smallest regression; none short of an outage.
    pub smallest: Option<Findable>,
}

impl Found {
    fn said(&self) -> String {
        format!("{}: {}", self.gate, outlook::sees(self.smallest))
    }
}

/// What each comparison of a plan finds in a release with the traffic of an hour. Nothing of what was not counted.
pub fn found(plan: &Plan, measured: &Measured, hour: &Hour) -> Vec<Found> {
    plan.traffic.iter().filter_map(|gate| found_by(gate, plan, measured, hour)).collect()
}

fn found_by(gate: &Gate, plan: &Plan, measured: &Measured, hour: &Hour) -> Option<Found> {
    let Rule::Compared(compared) = &gate.rule else { return None };
    let counted = measured.counted.iter().find(|counted| counted.gate == gate.name)?;
    let history = &counted.past[hour.periods.clone()];
    let shares = green_shares(&measured.schedule, plan.sampling.period, plan.bake_for);
    let (_, smallest) = outlook::found(history, &shares, compared, &Chances::new(plan));
    Some(Found { gate: gate.name.clone(), smallest })
}

/// What a plan finds in either hour, for programs.
pub fn found_json(plan: &Plan, measured: &Measured) -> Value {
    let of_hour = |hour: &Hour| -> Vec<Value> {
        let found = found(plan, measured, hour).into_iter();
        found.map(|one| json!({"gate": one.gate, "finds": outlook::sees(one.smallest)})).collect()
    };
    measured.hours().filter(|_| measured.is_enough()).map_or(
        Value::Null,
        |hours| json!({"usual_hour": of_hour(&hours.usual), "quiet_hour": of_hour(&hours.quiet)}),
    )
}

/// The policy of `of`, such as "the deployment group shop/orders", with the reasons of all that it says. Nothing is measured
/// where nobody knows what is deployed.
pub fn text(of: &str, on: Date, measured: Option<&Measured>) -> String {
    let suggested = measured.map(Suggested::from);
    let mut text = Text::default();
    text.line(&format!("# yaml-language-server: $schema={SCHEMA}"));
    text.comment(&format!(
        "The policy of {of}, written by `shiftgate init` on {on}. `shiftgate policy explain FILE` says all that it does, and docs/policy.md has every key."
    ));
    text.line("#");
    match measured {
        Some(measured) => {
            let bake = suggested.as_ref().map_or(defaults::BAKE, Suggested::lasts);
            let outlooks = outlooks(&plan(measured.front, bake), measured);
            for line in numbers(measured).iter().chain(&outlooks) {
                text.comment(line);
            }
        }
        None => text.comment(
            "Nothing was measured: no release of it is known yet, so that nobody knows where its requests are counted. The built-in defaults hold. Ask again after the first release: `shiftgate init --force`.",
        ),
    }
    text.line("version: 1");
    text.line("");
    text.comment(
        "Begin by observing: all is judged and reported, and nothing is stopped. Write `enforce` when the reports of some releases hold no surprise.",
    );
    text.line("mode: observe");
    if let (Some(measured), Some(suggested)) = (measured, suggested) {
        suggestions(&suggested, measured, &mut text);
    }
    text.0
}

/// What was measured, a line each.
pub fn numbers(measured: &Measured) -> Vec<String> {
    let minute = |at: jiff::Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    let (from, until) = (minute(measured.window.start), minute(measured.window.end()));
    let Some((hours, known)) = measured.hours().zip(measured.known()) else {
        return vec![format!(
            "Measured from {from} to {until} UTC: {}. The built-in defaults hold.",
            why_nothing(measured.front)
        )];
    };
    let mut lines = vec![format!(
        "Measured from {from} to {until} UTC, of which CloudWatch knows {}:",
        several(known.len(), "minute")
    )];
    let requests = |hour: &Hour| Quantity::plain(hour.requests);
    lines.push(if hours.number > 1 {
        format!(
            "  requests: {} a minute in a usual hour, {} in a quiet one (the median and the lowest tenth of {} hours)",
            requests(&hours.usual),
            requests(&hours.quiet),
            hours.number
        )
    } else {
        format!("  requests: {} a minute", requests(&hours.usual))
    });
    for counted in &measured.counted {
        let Some(ratio) = Measured::ratio(counted) else { continue };
        let above = match measured.times {
            Some(times) if counted.gate.starts_with("slow ") => {
                format!(" above {}", milliseconds(times.slow_ms()))
            }
            _ => String::new(),
        };
        lines.push(format!("  {}: {} of all{above}", counted.gate, Quantity::share(ratio)));
    }
    if let Some(times) = measured.times {
        let (p95, p99) = (Quantity::seconds(times.p95), Quantity::seconds(times.p99));
        lines.push(format!("  response time: p95 {p95}, p99 {p99} (the medians of the hours)"));
    }
    if !measured.is_enough() {
        lines.push(format!(
            "Fewer than {HOUR} minutes with requests are too little to draw values from, so that the built-in defaults hold. Measure again later: `shiftgate init --force`."
        ));
    }
    lines
}

fn why_nothing(front: Front) -> &'static str {
    match front {
        Front::Application | Front::Shared | Front::Function => "CloudWatch knows no request",
        Front::Network => {
            "behind a Network Load Balancer nothing counts requests, and health is all that is judged"
        }
        Front::None => {
            "without a load balancer nothing counts requests; name metrics of your own (docs/how-to/custom-metrics.md)"
        }
    }
}

/// What a plan makes of that traffic, a line each.
pub fn outlooks(plan: &Plan, measured: &Measured) -> Vec<String> {
    let Some(hours) = measured.hours().filter(|_| measured.is_enough()) else { return Vec::new() };
    if measured.front == Front::Shared {
        return vec!["Old and new tasks share a target group: server errors and response times are compared with those of the days before, while it bakes.".to_owned()];
    }
    let shift: Duration = measured.schedule.iter().map(|step| step.lasts).sum();
    let mut lines = vec![format!(
        "What a release finds in {}, in {} of shift and {} of bake:",
        if hours.number > 1 { "a usual hour" } else { "such an hour" },
        several(minutes(shift) as usize, "minute"),
        minutes(plan.bake_for)
    )];
    let said = |hour: &Hour| -> Vec<String> {
        let found = found(plan, measured, hour).into_iter().map(|found| found.said());
        found.chain(outage(plan, measured, hour)).map(|said| format!("  {said}")).collect()
    };
    lines.extend(said(&hours.usual));
    if hours.number > 1 {
        lines.push("In a quiet hour:".to_owned());
        lines.extend(said(&hours.quiet));
    }
    lines
}

/// Whether green has the requests that the outage lane needs, as the report before the shift says it.
fn outage(plan: &Plan, measured: &Measured, hour: &Hour) -> Option<String> {
    let need = needs::of_outage(plan, measured.front)?;
    let usual = Usual { requests: hour.requests, is_shared_out: true };
    let course = Course { schedule: &measured.schedule, period: plan.sampling.period, bake: plan.bake_for };
    let seen = || format!("is seen where {} of green's requests are bad", Quantity::share(plan.outage.share));
    Some(format!("outage: {}", need.told(usual, &course).map_or_else(seen, |told| told.summary)))
}

fn suggestions(suggested: &Suggested, measured: &Measured, text: &mut Text) {
    let first = measured.counted.first().map(|counted| counted.gate.as_str()).unwrap_or_default();
    let tried = BAKES.map(|minutes| minutes.to_string()).join(", ");
    if let Some(ms) = suggested.slow_ms {
        slow_requests(ms, text);
    }
    let enough = outlook::enough();
    if let Some(Longer { lasts, finds, by_default }) = &suggested.bake {
        text.line("");
        text.comment(&format!(
            "In {} minutes, the default, the gate of {first} {}. Wanted is {enough}; of {tried} minutes this is the shortest that finds it: it {}.",
            minutes(defaults::BAKE),
            outlook::sees(*by_default),
            outlook::sees(*finds),
        ));
        text.line(&format!("bake: {{for: {}m}}", minutes(*lasts)));
    }
    if suggested.is_too_little {
        text.line("");
        text.comment(&format!(
            "All else is as built in. In a usual hour there is too little traffic to see {first} that become {enough}, and a longer bake ({tried} minutes were tried) would not change that. A larger first step would, and smoke checks need no traffic: docs/how-to/low-traffic.md.",
        ));
    }
    let is_plain = suggested.slow_ms.is_none() && suggested.bake.is_none() && !suggested.is_too_little;
    if is_plain && measured.is_enough() {
        text.line("");
        text.comment("All else is as built in: the measurement gives no reason to change it.");
    }
}

/// The built-in gates, with a limit of what is slow.
fn slow_requests(ms: u64, text: &mut Text) {
    text.line("");
    text.comment(&format!(
        "The built-in gates, but for one value. `slower_than` is `auto` by default, the p99 of the minutes before a release; with fewer than {} requests a minute that is about the slowest one. So it is the p99 of the hours, rounded up. Measure again when the service changes.",
        defaults::MIN_REQUESTS_FOR_PERCENTILE
    ));
    for line in [
        "traffic:",
        "  - {name: server errors, bad: HTTPCode_Target_5XX_Count, of: RequestCount, weight: 6}",
        "  - {name: connection errors, bad: TargetConnectionErrorCount, of: RequestCount, weight: 1}",
        &format!("  - {{name: slow requests, slower_than: {ms}ms, weight: 3}}"),
        "  - {name: unhealthy targets, metric: UnHealthyHostCount, statistic: Minimum, limit: 0, tolerate: 1x}",
    ] {
        text.line(line);
    }
}

fn minutes(duration: Duration) -> u64 {
    duration.as_secs() / 60
}

fn milliseconds(ms: u64) -> Quantity {
    Quantity::seconds(ms as f64 / 1000.0)
}

fn several(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Lines of YAML.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A comment in lines of a width that is read; the later ones of an item are indented further. Whatever names hold, nothing
    /// of it leaves the comment.
    fn comment(&mut self, text: &str) {
        let indent = &text[..text.len() - text.trim_start_matches(' ').len()];
        let mut line = format!("#{indent}");
        let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
        for word in words.filter(|word| !word.is_empty()) {
            if line.len() + word.len() >= WIDTH {
                self.line(&line);
                line = format!("#{indent}{indent}");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }
}

#[cfg(test)]
mod tests {
    use shiftgate::judge::series::Past;
    use shiftgate::policy::gates::{Compared, Events, SlowerThan};
    use shiftgate::policy::parse;
    use shiftgate::policy::plan::Mode;
    use shiftgate::rollout::schedule::Step;

    use super::super::measured::tests::service;
    use super::*;

    const OF: &str = "the deployment group shop/orders";

    fn written(measured: Option<&Measured>) -> String {
        text(OF, "2026-11-29".parse().unwrap(), measured)
    }

    /// A comment's words in one line, however it is wrapped.
    fn words(text: &str) -> String {
        let words = text.split_whitespace().filter(|word| *word != "#");
        words.collect::<Vec<_>>().join(" ")
    }

    /// Services of every kind, by what they are.
    fn services() -> Vec<(String, Measured)> {
        let fronts = [Front::Application, Front::Shared, Front::Network, Front::Function, Front::None];
        let half = Step { share: 0.5, lasts: Duration::from_mins(5) };
        let mut services = Vec::new();
        for front in fronts {
            for requests in [0.0, 1.0, 3.0, 12.0, 45.0, 80.0, 110.0, 400.0, 20_000.0] {
                for schedule in [Vec::new(), vec![half]] {
                    let name = format!("{front:?} {requests} {schedule:?}");
                    let alike = service(&[requests, requests / 2.0]);
                    services.push((name, Measured { front, schedule, ..alike }));
                }
            }
        }
        services
    }

    #[test]
    fn every_written_policy_is_valid_and_does_what_its_comments_say() {
        let (mut longer, mut limited, mut too_little) = (0, 0, 0);
        for (name, measured) in services() {
            let text = written(Some(&measured));
            let suggested = Suggested::from(&measured);
            let read = parse(&text).unwrap_or_else(|problems| panic!("{name}: {problems:?}\n{text}"));
            let (usual, plan) = (Plan::default().fitted(measured.front), read.fitted(measured.front));
            assert_eq!(plan.rules.mode, Mode::Observe, "{name}");
            assert_eq!(plan.bake_for, suggested.lasts(), "{name}");
            // But for what is slow, the gates are the built-in ones.
            let gates = |plan: &Plan| -> Vec<Gate> {
                let slow = suggested.slow_ms.map(|ms| SlowerThan::Limit(ms as f64 / 1000.0));
                let with_limit = |mut gate: Gate| {
                    if let (Some(slow), Rule::Compared(Compared { events: Events::Slow { than, .. }, .. })) =
                        (slow, &mut gate.rule)
                    {
                        *than = slow;
                    }
                    gate
                };
                plan.traffic.iter().chain(&plan.bake).cloned().map(with_limit).collect()
            };
            assert_eq!(plan.traffic, gates(&usual)[..usual.traffic.len()], "{name}");
            assert_eq!(plan.bake, gates(&usual)[usual.traffic.len()..], "{name}");
            // What the comments say of it is what it finds.
            for line in numbers(&measured).iter().chain(&outlooks(&plan, &measured)) {
                assert!(words(&text).contains(&words(line)), "{name}: no `{line}` in\n{text}");
            }
            if let Some(hours) = measured.hours().filter(|_| suggested.bake.is_some()) {
                let sees =
                    |plan: &Plan| !outlook::is_too_little(found(plan, &measured, &hours.usual)[0].smallest);
                assert!(sees(&plan) && !sees(&usual), "{name}");
            }
            longer += usize::from(suggested.bake.is_some());
            limited += usize::from(suggested.slow_ms.is_some());
            too_little += usize::from(suggested.is_too_little);
        }
        assert!(longer > 0 && limited > 0 && too_little > 0, "{longer} {limited} {too_little}");
    }

    #[test]
    fn a_policy_fits_into_a_parameter_and_no_name_leaves_its_comment() {
        let name = format!("the deployment group {}/a\nmode: enforce\u{85}\u{1}x", "shop".repeat(50));
        for (of, measured) in services() {
            let text = text(&name, "2026-11-29".parse().unwrap(), Some(&measured));
            assert!(text.len() <= 4096, "{of}: {} bytes\n{text}", text.len());
            let plan = parse(&text).unwrap_or_else(|problems| panic!("{of}: {problems:?}\n{text}"));
            assert_eq!(plan.rules.mode, Mode::Observe, "{text}");
        }
    }

    #[test]
    fn a_busy_service_gets_the_defaults_and_what_they_find() {
        insta::assert_snapshot!(written(Some(&service(&[90.0, 1200.0, 1300.0, 1100.0]))));
    }

    #[test]
    fn a_service_with_little_traffic_gets_what_makes_up_for_it() {
        insta::assert_snapshot!(written(Some(&service(&[2.0, 45.0, 44.0]))));
    }

    #[test]
    fn a_bake_that_is_too_short_becomes_longer() {
        let is_longer = |measured: &Measured| Suggested::from(measured).bake.is_some();
        let services = (1..100).map(|requests| service(&[f64::from(requests); 3]));
        insta::assert_snapshot!(written(services.rev().find(is_longer).as_ref()));
    }

    #[test]
    fn of_a_few_minutes_no_value_is_drawn() {
        for requests in [1.0, 15.0, 44.0, 1200.0] {
            let mut measured = service(&[requests, requests]);
            for counted in &mut measured.counted {
                counted.past[..61].fill(Past::default());
            }
            let text = written(Some(&measured));
            assert_eq!(Suggested::from(&measured), Suggested::default());
            assert!(text.ends_with("mode: observe\n"), "{text}");
            assert!(words(&text).contains("are too little to draw values from"), "{text}");
            assert!(!text.contains("finds") && !text.contains("no reason to change"), "{text}");
            assert_eq!(found_json(&plan(measured.front, defaults::BAKE), &measured), Value::Null);
        }
    }

    #[test]
    fn a_longer_bake_says_of_itself_what_the_outlook_says_of_it() {
        // Errors are so rare that many times as many are still few of all.
        let rare = |requests: f64| {
            let mut measured = service(&[requests; 3]);
            for total in measured.counted[0].past.iter_mut().filter_map(|past| past.total.as_mut()) {
                total.bad = 0.0;
            }
            measured
        };
        let mut seen = 0;
        for measured in (1..300).map(|requests| rare(f64::from(requests))) {
            let Some(Longer { lasts, finds, .. }) = Suggested::from(&measured).bake else { continue };
            let usual = measured.hours().unwrap().usual;
            let plan = plan(measured.front, lasts);
            assert_eq!(found(&plan, &measured, &usual)[0].smallest, finds);
            assert!(finds.unwrap().ratio > 10.0);
            let text = words(&written(Some(&measured)));
            assert!(text.matches(&outlook::sees(finds)).count() >= 2, "{text}");
            assert!(text.contains("Wanted is 10 times as many, or 1 % of all"), "{text}");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn of_a_service_without_a_past_nothing_is_made_up() {
        insta::assert_snapshot!(format!("{}\n{}", written(None), written(Some(&service(&[0.0])))));
    }
}
