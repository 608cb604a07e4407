//! `backtest`: what a policy would have made of past rollouts, and of time in which nothing was released.

mod account;
mod told;

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use shiftgate::backtest::{self, Named};
use shiftgate::policy::plan::Plan;
use shiftgate::recording::Recording;

use super::policy;
use crate::show;
use told::{Column, Told};

/// What is judged, and how.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("past").required(true).args(["recordings", "deployment_group"])))]
pub struct Arguments {
    /// A folder of recordings: each *.json holds one, each *.jsonl one a line
    #[arg(long, value_name = "DIR")]
    recordings: Option<PathBuf>,
    /// A deployment group whose past is read from AWS, with the credentials of the environment; nothing is changed there
    #[arg(long, value_name = "APP/GROUP")]
    deployment_group: Option<String>,
    /// How far back it is read, such as 12h or 7d; CloudWatch keeps minutes for 15 days
    #[arg(long, value_name = "TIME", default_value = "15d", value_parser = since, conflicts_with = "recordings")]
    since: Duration,
    /// Where to save what was read, for --recordings
    #[arg(long, value_name = "DIR", conflicts_with = "recordings")]
    save: Option<PathBuf>,
    /// The policy, YAML or JSON; the built-in defaults without it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Another policy to show beside it: what would change
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// Length of an A/A window in minutes, as long as a shift takes
    #[arg(long, value_name = "NUMBER", default_value = "15")]
    minutes: NonZeroU32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Reads the past and tells what would have come of it.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let plans = plans(arguments)?;
    let mut progress = show::Slow::new();
    let (recordings, notes) = match (&arguments.recordings, &arguments.deployment_group) {
        (Some(folder), _) => (read(folder)?, Vec::new()),
        (None, group) => {
            if let Some(folder) = &arguments.save {
                refuse_to_mix(folder)?;
            }
            let group = group.as_deref().unwrap_or_default();
            let all: Vec<&Plan> = plans.iter().map(|(_, plan)| plan).collect();
            let account::Read { recordings, notes } =
                account::read(group, arguments.since, &all, &mut progress).await?;
            if let Some(folder) = &arguments.save {
                save(&recordings, folder)?;
            }
            (recordings, notes)
        }
    };
    let windows = backtest::windows(&recordings, arguments.minutes);
    let columns = plans
        .into_iter()
        .map(|(policy, plan)| {
            let cut = windows.as_deref().unwrap_or_default();
            let backtest = backtest::backtest(&recordings, cut, &plan, &mut |text| progress.say(text));
            Column { policy, allowed: plan.false_rollback_rate, backtest }
        })
        .collect();
    let told = Told {
        minutes: arguments.minutes.get(),
        period_seconds: told::period_seconds(&recordings),
        windows: windows.as_ref().map(Vec::as_slice).map_err(|why| *why),
        columns,
        notes,
    };
    show::line(&if arguments.json { serde_json::to_string_pretty(&told.json())? } else { told.text() });
    Ok(true)
}

/// The policies with their names, the one that is asked about first.
fn plans(arguments: &Arguments) -> Result<Vec<(String, Plan)>> {
    let loaded = |file: &PathBuf| {
        let plan = policy::load(file)?.map_err(|()| anyhow!("{} is not a valid policy", file.display()))?;
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        anyhow::Ok((name, plan))
    };
    let first =
        arguments.policy.as_ref().map_or_else(|| Ok(("the defaults".to_owned(), Plan::default())), loaded)?;
    let beside = arguments.beside.as_ref().map(loaded).transpose()?;
    Ok([first].into_iter().chain(beside).collect())
}

/// All recordings of a folder, by name. All that are none are told at once, with file and line.
fn read(folder: &Path) -> Result<Vec<Named>> {
    let failed = || format!("failed to read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(failed)?;
    let mut files = entries
        .map(|entry| Ok(entry.with_context(failed)?.path()))
        .filter(|path| {
            let is_wanted = |path: &PathBuf| matches!(extension(path), "json" | "jsonl");
            path.as_ref().map_or(true, is_wanted)
        })
        .collect::<Result<Vec<PathBuf>>>()?;
    files.sort();
    let (mut recordings, mut faults) = (Vec::new(), Vec::new());
    for file in &files {
        let text = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if extension(file) == "json" {
            match Recording::parse(&text) {
                Ok(recording) => recordings.push(Named { name, recording }),
                Err(invalid) => faults.push(format!("{}: {invalid}", file.display())),
            }
            continue;
        }
        let lines = text.split(|byte| *byte == b'\n').zip(1..);
        for (line, number) in lines.filter(|(line, _)| !line.trim_ascii().is_empty()) {
            match Recording::parse(line) {
                Ok(recording) => recordings.push(Named { name: format!("{name}:{number}"), recording }),
                Err(invalid) => faults.push(format!("{}, line {number}: {invalid}", file.display())),
            }
        }
    }
    if !faults.is_empty() {
        bail!("what is no recording must be mended or moved away:\n  {}", faults.join("\n  "));
    }
    if recordings.is_empty() {
        bail!(
            "{} has no recordings: files *.json with one each, or *.jsonl with one a line, as `run --record` and `backtest --save` write them",
            folder.display()
        );
    }
    Ok(recordings)
}

/// What is saved twice, from different times, would be judged twice.
fn refuse_to_mix(folder: &Path) -> Result<()> {
    let is_empty = |mut entries: fs::ReadDir| entries.next().is_none();
    if fs::read_dir(folder).is_ok_and(|entries| !is_empty(entries)) {
        bail!(
            "{} is not empty: give --save a new folder, since all in it is judged together",
            folder.display()
        );
    }
    Ok(())
}

fn save(recordings: &[Named], folder: &Path) -> Result<()> {
    crate::folder::make(folder)?;
    for Named { name, recording } in recordings {
        let file = folder.join(format!("{name}.json"));
        let json = serde_json::to_string(recording)?;
        fs::write(&file, json + "\n").with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(())
}

/// A time such as `12h` or `7d`.
pub(super) fn since(text: &str) -> Result<Duration, String> {
    let seconds = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let read = || {
        let (number, seconds) =
            seconds.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds)))?;
        let time = number.parse::<u64>().ok()?.checked_mul(*seconds)?;
        (time > 0).then(|| Duration::from_secs(time))
    };
    read().ok_or_else(|| {
        "a whole number of days, hours or minutes is expected, such as 7d, 12h or 30m".to_owned()
    })
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = r#"{"version":1,"kind":"traffic","period_seconds":60,"minutes":[]}"#;

    /// What is said of a folder with these files.
    fn said(files: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let shown = folder.path().display().to_string();
        let names = |recordings: Vec<Named>| recordings.into_iter().map(|named| named.name).collect();
        read(folder.path()).map(names).map_err(|error| format!("{error:#}").replace(&shown, "DIR"))
    }

    #[test]
    fn each_json_is_one_recording_and_each_jsonl_one_a_line() {
        let lines = format!("{BARE}\n\n{BARE}\n");
        let files = [("b.jsonl", lines.as_str()), ("a.json", BARE), ("README.md", "nothing")];
        assert_eq!(said(&files), Ok(vec!["a".to_owned(), "b:1".to_owned(), "b:3".to_owned()]));
    }

    #[test]
    fn what_is_no_recording_is_told_with_file_and_line() {
        let lines = format!("{BARE}\n{{}}\n{BARE}");
        let error =
            said(&[("a.json", "{\n\"version\":1,\n\"kind\":\"x\"}"), ("b.jsonl", &lines), ("c.json", BARE)])
                .unwrap_err();
        for part in ["DIR/a.json: kind: ", "line 3", "DIR/b.jsonl, line 2: version: is missing"] {
            assert!(error.contains(part), "{error}: no `{part}`");
        }
        assert!(!error.contains("c.json"), "{error}");
    }

    #[test]
    fn what_is_saved_is_read_again_and_nothing_is_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("new");
        let recordings =
            vec![Named { name: "d-1".to_owned(), recording: Recording::parse(BARE.as_bytes()).unwrap() }];
        assert!(refuse_to_mix(&below).is_ok());
        save(&recordings, &below).unwrap();
        assert_eq!(read(&below).unwrap(), recordings);
        assert!(refuse_to_mix(&below).unwrap_err().to_string().contains("is not empty"));
    }

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(since("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(since("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(since("90m"), Ok(Duration::from_mins(90)));
        for bad in ["", "d", "7", "0d", "-1h", "1w", "1.5h", "99999999999999999999d", "999999999999999999d"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_without_recordings_is_an_error() {
        for files in [&[][..], &[("README.md", BARE)], &[("a.jsonl", "\n")]] {
            let error = said(files).unwrap_err();
            assert!(error.starts_with("DIR has no recordings: files *.json"), "{error}");
        }
        let error = format!("{:#}", read(Path::new("no/such/folder")).unwrap_err());
        assert!(error.starts_with("failed to read no/such/folder: "), "{error}");
    }
}
