//! Checks, and how they are told.

use serde_json::{Value, json};
use shiftgate::fault::{Fault, FaultKind};

use crate::account::{hint, is_of_credentials};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it must be.
    Ok,
    /// Nobody knows: something could not be read.
    Unchecked,
    /// It works, and Shiftgate can do less than it could.
    Warning,
    /// It does not work.
    Problem,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unchecked => "not checked",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it ended.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Check {
    /// A check that is as it must be.
    pub fn ok(name: &str, seen: impl Into<String>) -> Self {
        Self { name: name.to_owned(), level: Level::Ok, seen: seen.into(), fix: None }
    }

    /// Something that limits what Shiftgate can do.
    pub fn warning(name: &str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, fix: Some(fix.into()), ..Self::ok(name, seen) }
    }

    /// Something that does not work.
    pub fn problem(name: &str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, fix: Some(fix.into()), ..Self::ok(name, seen) }
    }

    /// What could not be read. A policy that is invalid is a problem, and so is what is named and not there.
    pub fn from_fault(name: &str, fault: &Fault) -> Self {
        let level = match fault.kind {
            _ if is_of_credentials(fault) => Level::Unchecked,
            FaultKind::Policy | FaultKind::NotFound | FaultKind::Rejected => Level::Problem,
            _ => Level::Unchecked,
        };
        Self { level, fix: Some(hint(fault).to_owned()), ..Self::ok(name, fault.chain()) }
    }
}

/// For people: a line each, its fix below it.
pub fn text(checks: &[Check]) -> String {
    let mut lines = Vec::new();
    for Check { name, level, seen, fix } in checks {
        lines.push(format!("{:<12} {name}: {seen}", level.as_str()));
        lines.extend(fix.as_ref().map(|fix| format!("{:<12} fix: {fix}", "")));
    }
    let count = |level: Level| {
        let number = checks.iter().filter(|check| check.level == level).count();
        let s = if number == 1 || level == Level::Unchecked { "" } else { "s" };
        format!("{number} {}{s}", level.as_str())
    };
    let counts = [Level::Problem, Level::Warning, Level::Unchecked].map(count);
    lines.push(format!("\n{} checks: {}", checks.len(), counts.join(", ")));
    lines.join("\n")
}

/// For programs.
pub fn json(name: &str, checks: &[Check]) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "check": check.name, "level": check.level.as_str(), "seen": check.seen, "fix": check.fix,
            })
        })
        .collect();
    json!({"of": name, "checks": checks})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_line_with_its_fix() {
        let denied = Fault::new(
            FaultKind::Denied,
            "cannot read the alarms: AWS denies cloudwatch:DescribeAlarms",
            "x",
        );
        let invalid =
            Fault::new(FaultKind::Policy, "the policy in parameter /shiftgate/a/b is invalid", "mend it");
        insta::assert_snapshot!(text(&[
            Check::ok("test listener", "green can be reached"),
            Check::warning("time to act", "5 minutes", "take a longer canary"),
            Check::problem("automatic rollback", "it is off", "turn it on"),
            Check::from_fault("alarms", &denied),
            Check::from_fault("policy", &invalid),
        ]));
    }
}
