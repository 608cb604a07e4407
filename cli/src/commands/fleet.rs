//! `bench fleet`: many rollouts at once in one account, played with the real functions, and simulated.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use shiftgate_bench::fleet::{Outcome, Scripts, World, simulate};
use shiftgate_lab::fleet::{self, BAKE_MINUTES, FleetSpec, Played, SHIFT_MINUTES};
use shiftgate_lab::quota::{Assumed, Quota, fresh_account};

use crate::show;

/// Seconds between looks.
const INTERVAL: f64 = 60.0;
/// What new accounts often have instead of 1,000 executions at once.
const REDUCED_EXECUTIONS: usize = 10;
/// A verdict must not come later than this many looks after its data.
const MOST_INTERVALS: f64 = 2.0;
/// Timers that go off so many seconds late, one in a hundred, show a machine that is too busy to tell anything of AWS.
const LATE: f64 = 0.25;
/// Seconds of a call in the simulation: what a call within a region takes, with what a function does around it.
const CALL: f64 = 0.03;
/// Metric values of a look: an hour and some minutes of the gates' series.
const VALUES_OF_A_LOOK: f64 = 14.0 * 65.0;
/// Values of metrics younger than three hours that `GetMetricData` gives an account in a second.
const VALUES_PER_SECOND: f64 = 180_000.0;

/// What is asked for.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rollouts whose shifts begin in the same second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rollouts: u32,
    /// How many in a hundred of them bring a regression
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=100))]
    regressions: u32,
    /// How many times as fast as on AWS minutes and quotas are: 1, 2, 6, 12 or 60
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Calls a second of each operation of CodeDeploy; AWS publishes none
    #[arg(long, default_value_t = Assumed::default().codedeploy_per_second)]
    codedeploy_rate: f64,
    /// Calls of GetMetricData a second; accounts that still have the older quota get 50
    #[arg(long, default_value_t = Assumed::default().metric_data_per_second)]
    metric_data_rate: f64,
    /// Executions of Lambda functions at once; new accounts often get 10
    #[arg(long, default_value_t = 1000)]
    executions: usize,
    /// Simulate only
    #[arg(long)]
    simulate: bool,
    /// Fleets that are simulated beside
    #[arg(
        long,
        value_name = "ROLLOUTS",
        value_delimiter = ',',
        default_value = "100,300,600,1000,2000,5000"
    )]
    also: Vec<u32>,
}

impl Arguments {
    fn regressions(&self, rollouts: u32) -> usize {
        (rollouts * self.regressions).div_ceil(100) as usize
    }
}

/// Plays and simulates a fleet, and tells both; false when a verdict was lost or came too late. `found` is asked for the project
/// and the functions' binaries when there is something to play.
pub async fn run(found: impl FnOnce() -> Result<(PathBuf, PathBuf)>, arguments: &Arguments) -> Result<bool> {
    ensure!(
        [1, 2, 6, 12, 60].contains(&arguments.speed),
        "--speed is 1, 2, 6, 12 or 60: CloudWatch has no other periods"
    );
    let assumed = Assumed {
        codedeploy_per_second: arguments.codedeploy_rate,
        metric_data_per_second: arguments.metric_data_rate,
    };
    let quotas = fresh_account(assumed);
    show::line(&format!(
        "{} rollouts, {} % with a regression; minutes and quotas {} times as fast as on AWS; {} executions at once",
        arguments.rollouts, arguments.regressions, arguments.speed, arguments.executions
    ));
    show::line(&format!("canary of {SHIFT_MINUTES} minutes, bake of {BAKE_MINUTES}; a look a minute\n"));
    show::line(&limits(&quotas, &Scripts::default(), arguments.executions).to_string());
    let mut holds = true;
    if !arguments.simulate {
        let (project, binaries) = found()?;
        let spec = FleetSpec {
            project,
            binaries,
            rollouts: arguments.rollouts as usize,
            regressions: arguments.regressions(arguments.rollouts),
            speed: arguments.speed,
            quotas: quotas.clone(),
            executions: arguments.executions,
        };
        let played = fleet::play(&spec, show::error).await?;
        holds = tell(&played, &spec);
    }
    show::line(
        "\nsimulated (the script of calls and the quotas, no function runs; as many seconds as on AWS)",
    );
    show::line(&simulated(&quotas, arguments).to_string());
    Ok(holds)
}

/// Prints what came of the real functions.
fn tell(played: &Played, spec: &FleetSpec) -> bool {
    let minute = INTERVAL / f64::from(spec.speed);
    show::line("\nplayed with the real functions and the real state machine");
    let mut table = markdown(["verdicts", "number", "p50 s", "p99 s", "max s", "p99 looks", "max looks"]);
    let kinds: [(&str, &dyn Fn(bool) -> bool); 3] =
        [("rolled back", &|bad| bad), ("released", &|bad| !bad), ("all", &|_| true)];
    for (name, wanted) in kinds {
        let mut delays: Vec<f64> = played
            .verdicts
            .iter()
            .filter(|verdict| wanted(verdict.regression))
            .map(|verdict| verdict.delay)
            .collect();
        delays.sort_by(f64::total_cmp);
        table.add_row(
            [name.to_owned(), delays.len().to_string()].into_iter().chain(percentiles(&delays, minute)),
        );
    }
    show::line(&table.to_string());
    show::line(&calls(played).to_string());
    let missed: usize = played.missed.values().sum();
    show::line(&format!(
        "looks that judged: {}; missed: {missed} {:?}; lost verdicts: {}",
        played.looks,
        played.missed,
        played.lost.len()
    ));
    played.lost.iter().take(10).for_each(|lost| show::line(&format!("  lost: {lost}")));
    let executions = played.executions;
    show::line(&format!(
        "executions: {}, at most {} at once, {} refused; {:.0} s in all",
        executions.begun, executions.peak, executions.throttled, played.seconds
    ));
    let late = quantile(&played.lateness, 0.99);
    let is_overloaded = late > LATE;
    let bound = if is_overloaded {
        "this machine was the bottleneck, so the delays are its own and not those of AWS's quotas"
    } else {
        "this machine kept up"
    };
    let latest = played.lateness.last().copied().unwrap_or(0.0);
    show::line(&format!("timers went off {late:.3} s late (p99), {latest:.3} s at most: {bound}"));
    let mut all: Vec<f64> = played.verdicts.iter().map(|verdict| verdict.delay / minute).collect();
    all.sort_by(f64::total_cmp);
    let in_time = quantile(&all, 0.99) <= MOST_INTERVALS;
    let told = match (in_time, is_overloaded) {
        (true, _) => "holds",
        (false, true) => "cannot be told on this machine",
        (false, false) => "MISSED",
    };
    show::line(&format!("p99 within {MOST_INTERVALS} looks: {told}"));
    played.lost.is_empty() && (in_time || is_overloaded)
}

/// The quotas, and the fleet whose watches use them up.
fn limits(quotas: &[Quota], scripts: &Scripts, executions: usize) -> Table {
    let mut table =
        markdown(["quota", "at once", "a second", "in a look", "used up by watches of", "source"]);
    for quota in quotas {
        let asked = scripts.in_a_look(|action| quota.covers(action));
        table.add_row([
            quota.name.to_owned(),
            quota.burst.to_string(),
            quota.per_second.to_string(),
            asked.to_string(),
            size(quota.per_second, asked as f64),
            quota.source.to_owned(),
        ]);
    }
    table.add_row([
        "GetMetricData values".to_owned(),
        "-".to_owned(),
        VALUES_PER_SECOND.to_string(),
        format!("about {VALUES_OF_A_LOOK}"),
        size(VALUES_PER_SECOND, VALUES_OF_A_LOOK),
        "documented; counted here, not enforced".to_owned(),
    ]);
    for executions in [executions, REDUCED_EXECUTIONS] {
        table.add_row([
            "Lambda executions at once".to_owned(),
            executions.to_string(),
            (10 * executions).to_string(),
            "1".to_owned(),
            format!("{executions} rollouts in their bake"),
            "documented 1,000; new accounts often get 10".to_owned(),
        ]);
    }
    table
}

/// The fleet of which each rollout asks so much a minute.
fn size(per_second: f64, in_a_look: f64) -> String {
    if in_a_look == 0.0 {
        "-".to_owned()
    } else {
        format!("{:.0} rollouts", per_second * INTERVAL / in_a_look)
    }
}

/// Calls by function and action.
fn calls(played: &Played) -> Table {
    let mut table = markdown(["function", "call", "answered", "throttled"]);
    for ((function, action), calls) in &played.calls {
        table.add_row([
            function.clone(),
            action.clone(),
            calls.answered.to_string(),
            calls.throttled.to_string(),
        ]);
    }
    table
}

fn simulated(quotas: &[Quota], arguments: &Arguments) -> Table {
    let mut table = markdown([
        "rollouts",
        "executions",
        "p50 s",
        "p99 s",
        "max s",
        "p99 looks",
        "max looks",
        "lost",
        "looks",
        "missed",
        "peak executions",
        "most throttled",
    ]);
    let mut sizes: Vec<(u32, usize)> =
        arguments.also.iter().map(|size| (*size, arguments.executions)).collect();
    sizes.push((arguments.rollouts, arguments.executions));
    sizes.extend([100, arguments.rollouts].map(|size| (size, REDUCED_EXECUTIONS)));
    sizes.extend([5000].map(|size| (size, 10 * arguments.executions)));
    sizes.sort_by_key(|(size, executions)| (*executions, *size));
    sizes.dedup();
    for (rollouts, executions) in sizes {
        let scripts = Scripts::default();
        let world = World {
            rollouts: rollouts as usize,
            regressions: arguments.regressions(rollouts),
            enough: 1.0,
            quotas,
            executions,
            call: CALL,
            scripts: &scripts,
        };
        let outcome = simulate(&world, u64::from(rollouts));
        let row = [rollouts.to_string(), executions.to_string()];
        table.add_row(row.into_iter().chain(percentiles(&outcome.delays, INTERVAL)).chain([
            outcome.lost.to_string(),
            outcome.looks.to_string(),
            outcome.missed.to_string(),
            outcome.peak.to_string(),
            most_throttled(&outcome),
        ]));
    }
    table
}

fn most_throttled(outcome: &Outcome) -> String {
    let most = outcome.calls.iter().max_by_key(|(_, (_, throttled))| *throttled);
    match most {
        Some((name, (_, throttled))) if *throttled > 0 => format!("{name}: {throttled}"),
        _ => "nothing".to_owned(),
    }
}

/// Median, 99th percentile and maximum in seconds, and the last two in looks.
fn percentiles(sorted: &[f64], minute: f64) -> [String; 5] {
    let most = sorted.last().copied().unwrap_or(f64::NAN);
    let high = quantile(sorted, 0.99);
    [quantile(sorted, 0.5), high, most]
        .map(|seconds| format!("{seconds:.1}"))
        .into_iter()
        .chain([high, most].map(|seconds| format!("{:.2}", seconds / minute)))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default()
}

/// The smallest value that a share of all does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn markdown<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(header);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&values, share).round() as u32), [100, 198, 200]);
        assert!(quantile(&[], 0.99).is_nan());
    }

    #[test]
    fn a_quota_is_used_up_by_as_many_looks_as_it_has_calls() {
        assert_eq!(size(40.0, 1.0), "2400 rollouts");
        assert_eq!(size(40.0, 0.0), "-");
    }
}
