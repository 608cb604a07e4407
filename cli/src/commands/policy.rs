//! `policy`: check, explain, schema.

use std::path::Path;

use anyhow::{Context, Result};
use shiftgate::policy::explained::explained;
use shiftgate::policy::plan::Plan;
use shiftgate::policy::{parse, raw};

use crate::show;

/// Tells every fault of a policy; false when there is one.
pub fn check(file: &Path) -> Result<bool> {
    Ok(match load(file)? {
        Ok(_) => {
            show::line(&format!("{}: valid", file.display()));
            true
        }
        Err(()) => false,
    })
}

/// Prints the JSON Schema.
pub fn schema() -> Result<bool> {
    show::line(&serde_json::to_string_pretty(&raw::schema())?);
    Ok(true)
}

/// Says in words what a policy does.
pub fn explain(file: Option<&Path>) -> Result<bool> {
    let plan = match file {
        None => Plan::default(),
        Some(file) => match load(file)? {
            Ok(plan) => plan,
            Err(()) => return Ok(false),
        },
    };
    show::line(&explained(&plan).join("\n"));
    Ok(true)
}

/// Reads a policy; its faults, if any, are told already.
pub(super) fn load(file: &Path) -> Result<Result<Plan, ()>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    Ok(parse(&text).map_err(|problems| {
        for problem in problems {
            show::error(&format!("{}: {problem}", file.display()));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_schema_is_the_one_that_is_generated() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.schema.json");
        let checked_in: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            checked_in,
            raw::schema(),
            "write it anew: cargo run -- policy schema > docs/policy.schema.json"
        );
    }
}
