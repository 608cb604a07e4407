//! The invariants of ARCHITECTURE.md that only the source itself can show.

#![allow(clippy::unwrap_used, reason = "a test file")]

use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files below a folder, with their text up to the unit tests.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![project().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.push((path.strip_prefix(project()).unwrap().to_string_lossy().into_owned(), code));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort();
    found
}

/// Where a text occurs in the library and the functions, a file for each time.
fn uses(text: &str) -> Vec<String> {
    let all = sources("shared/src").into_iter().chain(sources("functions"));
    all.flat_map(|(file, code)| vec![file; code.matches(text).count()]).collect()
}

#[test]
fn the_report_and_the_stop_have_one_call_site_each() {
    assert_eq!(uses(".put_lifecycle_event_hook_execution_status()"), ["shared/src/report/mod.rs"]);
    assert_eq!(uses(".stop_deployment()"), ["shared/src/watch.rs"]);
    assert_eq!(uses(".stop_service_deployment()"), ["shared/src/watch.rs"]);
}

#[test]
fn the_pure_modules_know_no_clock_no_network_and_no_environment() {
    let pure = |file: &str| {
        [
            "judge/src/",
            "shared/src/judge/",
            "shared/src/recording",
            "shared/src/backtest",
            "shared/src/outlook/",
            "shared/src/verdict.rs",
            "shared/src/budget.rs",
            "shared/src/smoke/expect.rs",
            "shared/src/smoke/manner.rs",
            "shared/src/smoke/reach.rs",
            "shared/src/ecs/call.rs",
            "shared/src/ecs/carried.rs",
            "shared/src/rollout/schedule.rs",
        ]
        .iter()
        .any(|prefix| file.starts_with(prefix))
            || ["plan.rs", "raw.rs", "values.rs", "defaults.rs", "chances.rs"]
                .iter()
                .any(|name| file == format!("shared/src/policy/{name}"))
    };
    let files: Vec<(String, String)> = sources("shared/src")
        .into_iter()
        .chain(sources("judge/src"))
        .filter(|(file, _)| pure(file))
        .collect();
    assert!(files.len() >= 10, "{files:?}");
    for (file, code) in files {
        for banned in
            ["async ", ".await", "aws_sdk", "crate::aws", "clock::", "std::env", "Instant", "::now("]
        {
            assert!(!code.contains(banned), "{file} contains `{banned}`");
        }
    }
}

#[test]
fn the_functions_hold_no_logic_and_no_sdk_call() {
    for (file, code) in sources("functions") {
        assert!(!code.contains("aws_"), "{file} talks to AWS itself");
        let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 35, "{file} is no recipe any more: {lines} lines");
    }
}

#[test]
fn nothing_in_the_library_or_the_functions_knows_the_lab() {
    assert_eq!(uses("shiftgate_lab"), Vec::<String>::new());
    for manifest in ["shared/Cargo.toml", "functions/watch/Cargo.toml"] {
        assert!(
            !fs::read_to_string(project().join(manifest)).unwrap().contains("shiftgate-lab"),
            "{manifest}"
        );
    }
}

#[test]
fn what_is_deployed_names_no_partition() {
    // China, GovCloud and the European sovereign cloud have partitions of their own; a fixed one fails there at run time.
    let read = |file: &str| fs::read_to_string(project().join(file)).unwrap();
    let (template, machine) = (read("template.yaml"), read("statemachine/watch.asl.json"));
    let code = ["shared/src", "publish/src", "report/src", "functions"].into_iter().flat_map(sources);
    let files = code.chain([
        ("template.yaml".to_owned(), template.clone()),
        ("statemachine/watch.asl.json".to_owned(), machine.clone()),
    ]);
    for (file, text) in files {
        for fixed in ["arn:aws:", "arn:aws-cn:", "arn:aws-us-gov:", "arn:aws-eusc:"] {
            assert!(!text.contains(fixed), "{file} has the partition of `{fixed}` only");
        }
    }
    // What the state machine leaves open, the template puts in.
    let open: Vec<&str> =
        machine.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
    assert!(open.contains(&"Partition"), "{open:?}");
    for name in open {
        assert!(template.contains(&format!("        {name}: !")), "template.yaml puts nothing in for {name}");
    }
    assert!(template.contains("Partition: !Ref AWS::Partition"));
}

#[test]
fn a_panic_can_still_be_reported() {
    // cargo-lambda makes a panic abort where the profile says nothing.
    let manifest = fs::read_to_string(project().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("panic = \"unwind\"") && !manifest.contains("panic = \"abort\""));
}
