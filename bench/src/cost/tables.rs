//! The model as Markdown: the parts of docs/cost.md that are not written by hand.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use shiftgate_lab::world::Used;

use super::counts::Counts;
use super::prices::{ALL, LAMBDA_TIME, LAMBDA_TIME_X86, METRIC_READ, TRANSITION, Usd};
use super::rollouts::{CANARY, ECS, FUNCTION, LINEAR, LONG_BAKE, ONE_CHECK_MORE, ONE_GATE_MORE, SHORT};
use super::{
    Assumptions, Month, of_custom_metrics, of_function, of_rollout, of_the_loop, peers, standing,
    working_seconds,
};

/// Rollouts a month.
const MONTHS: [f64; 3] = [10.0, 1000.0, 100_000.0];
/// The ways that are told side by side.
const WAYS: [&str; 4] = [CANARY, LINEAR, ECS, FUNCTION];
/// Minutes of a canary of 15 with everything around it: the bake, its data, readiness.
const MINUTES_OF_A_ROLLOUT: f64 = 25.0;

/// Begins a part in the document, before its name.
const BEGIN: &str = "<!-- bench cost: ";
/// Ends it.
const END: &str = "<!-- bench cost ends -->";

/// A part of the document.
struct Part {
    name: &'static str,
    text: String,
}

/// The document with the parts between its marks renewed, or the name of a part that it lacks or that nobody knows.
pub fn renewed(document: &str, counts: &Counts) -> Result<String, String> {
    let mut rest = document;
    let mut renewed = String::new();
    let mut parts = parts(counts);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").ok_or("a mark does not end")?;
        let (_, after) = after.split_once(END).ok_or_else(|| format!("the part {name} does not end"))?;
        let at = parts.iter().position(|part| part.name == name);
        let part = parts.remove(at.ok_or_else(|| format!("there is no part {name}"))?);
        // Writing to a String cannot fail.
        let _ = write!(renewed, "{before}{BEGIN}{name} -->\n\n{}\n\n{END}", part.text.trim());
        rest = after;
    }
    renewed.push_str(rest);
    match parts.first() {
        Some(part) => Err(format!("the document has no part {}", part.name)),
        None => Ok(renewed),
    }
}

/// All parts, one after the other.
pub fn all(counts: &Counts) -> String {
    parts(counts).iter().map(|part| part.text.trim()).collect::<Vec<_>>().join("\n\n")
}

fn parts(counts: &Counts) -> Vec<Part> {
    let assumed = Assumptions::default();
    let part = |name, text: String| Part { name, text };
    vec![
        part("headline", headline(counts, &assumed)),
        part("lines", lines(counts, &assumed)),
        part("stages", stages(counts, &assumed)),
        part("ways", side_by_side(counts, &assumed)),
        part("months", months(counts, &assumed)),
        part("growth", growth(counts, &assumed)),
        part("cheaper", cheaper(counts, &assumed)),
        part("sensitivity", sensitivity(counts, &assumed)),
        part("peers", beside(counts, &assumed)),
        part("prices", prices()),
    ]
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

/// Cents, which are the unit of a rollout.
fn cents(cost: Usd) -> String {
    format!("{:.3} ¢", cost.cents())
}

/// Dollars, which are the unit of a month.
fn dollars(cost: Usd) -> String {
    let digits = if cost.0 < 10.0 { 2 } else { 0 };
    format!("{:.digits$} $", cost.0)
}

fn headline(counts: &Counts, assumed: &Assumptions) -> String {
    let bill = counts.of(CANARY);
    let used = of_rollout(&bill, assumed).total();
    let custom = of_custom_metrics(&bill, 1.0);
    let than = |cost: Usd| if cost.cents() < 1.0 { "less than a cent" } else { "more than a cent" };
    format!(
        "A canary of 15 minutes by the built-in policy, in three zones, costs **{}**: {}. If no other rollout falls into its hours, its \
         custom metrics cost {} more; together that is {}, {}.",
        cents(used),
        than(used),
        cents(custom),
        cents(used + custom),
        than(used + custom)
    )
}

fn lines(counts: &Counts, assumed: &Assumptions) -> String {
    let cost = of_rollout(&counts.of(CANARY), assumed);
    let total = cost.total();
    let mut table = table(["what is paid for", "cost", "share"]);
    for (what, usd) in cost.lines() {
        table.add_row([what.to_owned(), cents(usd), format!("{:.0} %", 100.0 * usd.0 / total.0)]);
    }
    table.add_row(["**all**".to_owned(), format!("**{}**", cents(total)), String::new()]);
    table.to_string()
}

fn stages(counts: &Counts, assumed: &Assumptions) -> String {
    let bill = counts.of(CANARY);
    let mut table = table([
        "function",
        "invocations",
        "calls to AWS",
        "works, s",
        "waits, s",
        "metrics read",
        "KB of log",
        "cost",
    ]);
    for (name, function) in &bill.functions {
        table.add_row([
            name.clone(),
            function.invocations.to_string(),
            function.round_trips().to_string(),
            format!("{:.1}", working_seconds(function, assumed)),
            format!("{:.0}", function.waited_seconds),
            function.metrics.to_string(),
            format!("{:.0}", function.log_bytes as f64 / 1024.0),
            cents(of_function(function, assumed).total()),
        ]);
    }
    let transitions = format!("the watch's loop, {} transitions", bill.transitions);
    let none = || "-".to_owned();
    let cost = cents(of_the_loop(&bill).total());
    table.add_row([transitions, none(), none(), none(), none(), none(), none(), cost]);
    table.to_string()
}

fn side_by_side(counts: &Counts, assumed: &Assumptions) -> String {
    let mut table = table([
        "rollout",
        "invocations",
        "waits, s",
        "metrics read",
        "transitions",
        "KB of log",
        "custom metrics",
        "cost",
    ]);
    for way in WAYS {
        let bill = counts.of(way);
        let sum = |of: fn(&shiftgate_lab::world::Used) -> f64| bill.functions.values().map(of).sum::<f64>();
        table.add_row([
            way.to_owned(),
            format!("{:.0}", sum(|function| function.invocations as f64)),
            format!("{:.0}", sum(|function| function.waited_seconds)),
            format!("{:.0}", sum(|function| function.metrics as f64)),
            bill.transitions.to_string(),
            format!("{:.0}", sum(|function| function.log_bytes as f64 / 1024.0)),
            bill.custom_metrics.len().to_string(),
            cents(of_rollout(&bill, assumed).total()),
        ]);
    }
    table.to_string()
}

fn months(counts: &Counts, assumed: &Assumptions) -> String {
    let mut table = table([
        "rollout",
        "a month",
        "rollouts",
        "custom metrics",
        "what stands there",
        "all",
        "of each rollout",
    ]);
    for way in WAYS {
        for rollouts in MONTHS {
            let month = Month::of(&counts.of(way), rollouts, assumed);
            table.add_row([
                way.to_owned(),
                format!("{rollouts}"),
                dollars(month.used),
                dollars(month.custom_metrics),
                dollars(month.standing),
                dollars(month.total()),
                cents(month.of_each()),
            ]);
        }
    }
    let mut text = table.to_string();
    text.push_str("\n\nWhat stands there, a month:");
    for (what, cost) in standing() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n- {what}: {}", dollars(cost));
    }
    text
}

/// What one more of something costs in a rollout, in the order of the table.
fn grows(counts: &Counts, assumed: &Assumptions) -> [(&'static str, Usd); 5] {
    let cost = |way| of_rollout(&counts.of(way), assumed).total().0;
    let sum = |way, of: fn(&Used) -> usize| counts.of(way).functions.values().map(of).sum::<usize>() as f64;
    let metrics = |way| sum(way, |function| function.metrics);
    let requests = |way| sum(way, |function| function.smoke_requests);
    let base = cost(CANARY);
    [
        ("a minute of shift: a look of the watch", Usd((base - cost(SHORT)) / 10.0)),
        ("a minute of bake: a look within the invocation", Usd((cost(LONG_BAKE) - base) / 5.0)),
        // By what they are about alone: a look more or less of one rollout would cost more than these.
        (
            "a gate that compares, by its five metrics in each look",
            METRIC_READ.of(metrics(ONE_GATE_MORE) - metrics(CANARY)),
        ),
        ("an availability zone, by its four metrics in each look", of_a_zone(counts)),
        (
            "a smoke check of five requests, made once in each look",
            LAMBDA_TIME.of(assumed.memory_gb
                * assumed.smoke_request.as_secs_f64()
                * (requests(ONE_CHECK_MORE) - requests(CANARY))),
        ),
    ]
}

/// A look reads blue's counts of each zone: requests, server errors, connection errors, times. It calls `GetMetricData` twice,
/// first for what is slow; the lab's balancers have three zones, always.
fn of_a_zone(counts: &Counts) -> Usd {
    let bill = counts.of(CANARY);
    let looking = ["watch", "after-allow-traffic"].into_iter().filter_map(|name| bill.functions.get(name));
    let calls: usize = looking.filter_map(|function| function.calls.get("cloudwatch:GetMetricData")).sum();
    METRIC_READ.of((4 * calls / 2) as f64)
}

/// What a minute of shift and a minute of bake cost in a rollout.
pub(super) fn of_a_minute(counts: &Counts, assumed: &Assumptions) -> [Usd; 2] {
    let [shift, bake, ..] = grows(counts, assumed);
    [shift.1, bake.1]
}

fn growth(counts: &Counts, assumed: &Assumptions) -> String {
    let mut table = table(["one more", "costs"]);
    for (what, cost) in grows(counts, assumed) {
        table.add_row([what.to_owned(), cents(cost)]);
    }
    let [shift, bake] = of_a_minute(counts, assumed);
    let rest = of_rollout(&counts.of(CANARY), assumed).total().0 - 15.0 * shift.0 - 5.0 * bake.0;
    format!(
        "{table}\n\nWith `s` minutes of shift and `b` of bake, up to 11: **{} + s x {} + b x {}**.",
        cents(Usd(rest)),
        cents(shift),
        cents(bake)
    )
}

fn cheaper(counts: &Counts, assumed: &Assumptions) -> String {
    let bill = counts.of(CANARY);
    let base = of_rollout(&bill, assumed);
    let [shift, baking] = of_a_minute(counts, assumed);
    let half = Assumptions { memory_gb: assumed.memory_gb / 2.0, ..*assumed };
    let mut table = table(["change", "saves in a canary of 15 minutes"]);
    let mut row = |what: String, saved: Usd| {
        let share = 100.0 * saved.0 / base.total().0;
        table.add_row([what, format!("{}, {share:.0} %", cents(saved))]);
    };
    row(
        "hand the bake over to the state machine at once: a look of the watch a minute instead of waiting"
            .to_owned(),
        Usd(7.0 * (baking.0 - shift.0)),
    );
    row("128 MB instead of 256".to_owned(), Usd(base.total().0 - of_rollout(&bill, &half).total().0));
    row(
        "`metrics.look_every: 2m`, which a policy may say today: half of the looks, and a regression is seen a minute later"
            .to_owned(),
        (base.metrics + base.transitions) * 0.5,
    );
    table.to_string()
}

fn sensitivity(counts: &Counts, assumed: &Assumptions) -> String {
    let bill = counts.of(CANARY);
    let base = of_rollout(&bill, assumed).total();
    let mut table = table(["if", "a canary of 15 minutes costs", "against it as assumed"]);
    let mut row = |what: &str, cost: Usd| {
        table.add_row([what.to_owned(), cents(cost), format!("{:+.0} %", 100.0 * (cost.0 / base.0 - 1.0))]);
    };
    let with = |changed: Assumptions| of_rollout(&bill, &changed).total();
    row("as assumed", base);
    row(
        "a round trip takes 100 ms, not 20",
        with(Assumptions { round_trip: Duration::from_millis(100), ..*assumed }),
    );
    row(
        "a connection takes 200 ms, not 60",
        with(Assumptions { connection: Duration::from_millis(200), ..*assumed }),
    );
    row("a start takes 1 s, not 100 ms", with(Assumptions { init: Duration::from_secs(1), ..*assumed }));
    row(
        "a smoke request takes 1 s, not 150 ms",
        with(Assumptions { smoke_request: Duration::from_secs(1), ..*assumed }),
    );
    let cost = of_rollout(&bill, assumed);
    let x86 = (cost.working.0 + cost.waiting.0) * (LAMBDA_TIME_X86.usd / LAMBDA_TIME.usd - 1.0);
    row("the functions run on x86_64", Usd(base.0 + x86));
    row(
        "each statistic that is read were billed as a metric (twice as many at most)",
        Usd(base.0 + cost.metrics.0),
    );
    row("a transition more for each start of an execution and each end", {
        Usd(base.0 + 2.0 * TRANSITION.of(2.0).0)
    });
    table.to_string()
}

fn beside(counts: &Counts, assumed: &Assumptions) -> String {
    let bill = counts.of(CANARY);
    let mut table = table(["what", "a rollout", "100 rollouts a month"]);
    let mut row = |what: String, rollout: Usd, month: Usd| {
        table.add_row([what, cents(rollout), dollars(month)]);
    };
    let ours = of_rollout(&bill, assumed).total();
    let month = Month::of(&bill, 100.0, assumed);
    row("Shiftgate, with the watch".to_owned(), ours, month.used);
    row("the same with custom metrics, alarms, key and dashboard".to_owned(), month.of_each(), month.total());
    for hooks in peers::HOOKS {
        let cost = hooks.cost(&bill, assumed).total();
        let what = format!("the five hooks alone: {}, {} MB", hooks.language, hooks.memory_mb);
        row(what, cost, cost * 100.0);
    }
    let during = peers::canary(MINUTES_OF_A_ROLLOUT);
    row("CloudWatch Synthetics, a run a minute during rollouts".to_owned(), during, during * 100.0);
    let always = peers::canary_month();
    row("CloudWatch Synthetics, a run a minute, always".to_owned(), always * 0.01, always);
    table.to_string()
}

fn prices() -> String {
    let mut table = table(["what", "price", "for", "source"]);
    for price in ALL {
        table.add_row([
            price.what.to_owned(),
            format!("{} $", price.usd),
            format!("{} {}", price.per, price.unit),
            price.source.to_string(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::rollouts::ways;
    use super::*;

    fn checked_in() -> Counts {
        Counts::read(include_str!("../../counts.json")).unwrap()
    }

    #[test]
    fn every_way_is_counted() {
        let counts = checked_in();
        let names: Vec<&str> = ways().iter().map(|way| way.name).collect();
        assert!(names.iter().all(|name| counts.ways.contains_key(*name)), "{names:?}");
        assert_eq!(counts.ways.len(), names.len());
    }

    #[test]
    fn parts_are_renewed_where_the_document_has_them() {
        let counts = checked_in();
        let named = |parts: &[&str]| {
            let part = |name: &&str| format!("by hand\n{BEGIN}{name} -->\nold\n{END}\n");
            parts.iter().map(part).collect::<Vec<_>>().concat()
        };
        let order: Vec<&str> = parts(&counts).iter().map(|part| part.name).collect();
        let renewed_once = renewed(&named(&order), &counts).unwrap();
        assert!(renewed_once.contains("GetMetricData") && !renewed_once.contains("old"));
        assert_eq!(renewed_once.matches("by hand").count(), order.len());
        assert_eq!(renewed(&renewed_once, &counts).unwrap(), renewed_once);
        assert_eq!(renewed(&named(&order[1..]), &counts).unwrap_err(), "the document has no part headline");
        assert_eq!(renewed(&named(&["other"]), &counts).unwrap_err(), "there is no part other");
    }
}
