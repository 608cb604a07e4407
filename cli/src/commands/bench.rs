//! `bench`: measures.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;
use shiftgate_bench::judge::{self, Check};

use crate::show;

/// Fewer rollouts of a cell leave a share of one half uncertain by two points and more.
const FEW: usize = 2000;

/// Plays the judge's benchmark; false when something does not hold that must.
pub fn judge(runs: usize, svg: &Path, json: Option<&Path>, only: Option<&str>) -> Result<bool> {
    let cells = judge::cells(only);
    if cells.is_empty() {
        bail!("no cell has {:?} in its name", only.unwrap_or_default());
    }
    let bar = show::Cells::new(cells.len());
    let rows = judge::measure(&cells, runs, |cell| bar.done(&cell.name()));
    bar.finish(runs * cells.len());
    let checks = judge::checks(&rows);
    show::line("\ngood releases that were rolled back, %");
    show::line(&judge::false_rollbacks(&rows).to_string());
    show::line("\nregressions that were caught, % @ median minute of all runs");
    show::line(&judge::caught(&rows).to_string());
    show::line("\nbad requests that green served until then, mean");
    show::line(&judge::bad_requests(&rows).to_string());
    show::line("");
    checks.iter().for_each(tell);
    if runs < FEW {
        show::line(&format!("{runs} runs a cell tell little: the checks are meant for {FEW} and more"));
    }
    write(svg, &judge::chart(&rows).context("failed to draw the chart")?)?;
    if let Some(json) = json {
        write(json, &json!({ "version": 1, "runs": runs, "rows": rows, "checks": checks }).to_string())?;
    }
    Ok(checks.iter().all(Check::holds))
}

/// Prints whether a check holds, and where it does not.
pub fn tell(check: &Check) {
    let held = match (check.asked, check.holds()) {
        (0, _) => "nothing to ask",
        (_, true) => "ok",
        (_, false) => "MISSED",
    };
    show::line(&format!("{} ({} asked): {held}", check.what, check.asked));
    check.missed.iter().for_each(|missed| show::line(&format!("     {missed}")));
}

/// Writes a file and the folder that it is in, and says so beside what is printed, which may itself go to a file.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    crate::folder::of(file)?;
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))?;
    show::error(&format!("wrote {}", file.display()));
    Ok(())
}

/// Prints how often the after-shift judge gives a false alarm, and what it finds.
pub fn placebo(runs: usize, days: usize) -> bool {
    show::line(&shiftgate_bench::placebo::run(runs, days));
    true
}
