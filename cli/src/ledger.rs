//! What Shiftgate's functions have logged, read from CloudWatch Logs: the ledger of an account.

mod verdict;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use shiftgate::aws::fault;
use shiftgate::event::Stage;

pub use self::verdict::Verdict;
use crate::account::{Account, told};
use crate::show::Spinner;

/// Pages of one log group that are read. A page may be empty though more follow; this many hold years of verdicts.
const MOST_PAGES: usize = 500;
/// Beginnings of the names of log groups: of CodeDeploy's hooks and the watch, and of ECS's function.
const HOOKS: &str = "/aws/lambda/CodeDeployHook_";
const OTHERS: &str = "/aws/lambda/shiftgate-";
/// End of the name of the function that ECS calls.
const ECS: &str = "-ecs-lifecycle";

/// A line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub said: Value,
}

/// What was read, and what the reader should know of how.
#[derive(Debug, Default)]
pub struct Lines {
    /// The lines, oldest first.
    pub lines: Vec<Line>,
    /// Why there may be more than that.
    pub notes: Vec<String>,
}

/// The log groups of Shiftgate's functions in the account: those of one stack, or of all.
pub async fn groups(account: &Account, stack: Option<&str>) -> Result<Vec<String>> {
    let prefixes = match stack {
        Some(stack) => [format!("{HOOKS}{stack}_"), format!("{OTHERS}{stack}{ECS}")],
        None => [HOOKS.to_owned(), OTHERS.to_owned()],
    };
    let mut groups = Vec::new();
    for prefix in prefixes {
        let mut pages =
            account.logs.describe_log_groups().log_group_name_prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                told(fault("logs:DescribeLogGroups", "list the log groups of Shiftgate's functions", error))
            })?;
            groups.extend(page.log_groups().iter().filter_map(|group| group.log_group_name.clone()));
        }
    }
    groups.retain(|group| is_ours(group, stack));
    groups.sort();
    groups.dedup();
    if groups.is_empty() {
        let of = stack.map_or_else(String::new, |stack| format!(" of the stack {stack}"));
        bail!(
            "there is no log group{of} in this account and region (looked for {HOOKS}<stack>_<stage> and {OTHERS}<stack>{ECS}): check AWS_REGION, and --stack"
        );
    }
    Ok(groups)
}

/// Whether a log group is one of Shiftgate's, and of this stack if one is named. A stack's name has no underscore.
fn is_ours(group: &str, stack: Option<&str>) -> bool {
    let of_hook = || {
        let (of, stage) = group.strip_prefix(HOOKS)?.split_once('_')?;
        Stage::ALL.iter().any(|known| known.function() == stage).then_some(of)
    };
    let of_ecs = || group.strip_prefix(OTHERS)?.strip_suffix(ECS);
    of_hook().or_else(of_ecs).is_some_and(|of| stack.is_none_or(|stack| stack == of))
}

/// The lines of these groups that a filter pattern finds, written since an instant. Lines that are no JSON are left out.
pub async fn read(
    account: &Account,
    groups: &[String],
    pattern: &str,
    since: Timestamp,
    spinner: &mut Spinner,
) -> Result<Lines> {
    let mut read = Lines::default();
    for (index, group) in groups.iter().enumerate() {
        let mut pages = account
            .logs
            .filter_log_events()
            .log_group_name(group)
            .filter_pattern(pattern)
            .start_time(since.as_millisecond())
            .into_paginator()
            .send();
        for number in 0.. {
            spinner.say(&format!("reading log group {} of {}, page {}", index + 1, groups.len(), number + 1));
            let Some(page) = pages.next().await else { break };
            if number == MOST_PAGES {
                read.notes.push(format!(
                    "{group} was read up to its page {MOST_PAGES}, and there is more: ask with a shorter --since"
                ));
                break;
            }
            let page = page.map_err(|error| {
                told(fault("logs:FilterLogEvents", &format!("read the log group {group}"), error))
            })?;
            for event in page.events() {
                let at = event.timestamp.and_then(|ms| Timestamp::from_millisecond(ms).ok());
                let said = event.message().and_then(|message| serde_json::from_str(message).ok());
                if let (Some(at), Some(said)) = (at, said) {
                    read.lines.push(Line { at, said });
                }
            }
        }
    }
    // Lines of one millisecond stay in the order in which they were written.
    read.lines.sort_by_key(|line| line.at);
    Ok(read)
}

/// An instant so long ago.
pub fn ago(since: std::time::Duration) -> Result<Timestamp> {
    shiftgate::clock::now().checked_sub(since).context("--since is longer ago than there is time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_groups_of_others_are_left_out() {
        let check = |group: &str, stack: Option<&str>, expect: bool| {
            assert_eq!(is_ours(group, stack), expect, "{group} of {stack:?}");
        };
        for (group, of) in [
            ("/aws/lambda/CodeDeployHook_shiftgate-dev_watch", "shiftgate-dev"),
            ("/aws/lambda/CodeDeployHook_lab_before-install", "lab"),
            ("/aws/lambda/shiftgate-lab-ecs-lifecycle", "lab"),
        ] {
            check(group, None, true);
            check(group, Some(of), true);
            check(group, Some("other"), false);
        }
        for group in [
            "/aws/lambda/CodeDeployHook_theirs",
            "/aws/lambda/CodeDeployHook_lab_before-lunch",
            "/aws/lambda/shiftgate-lab-publish",
            "/aws/lambda/shop",
        ] {
            check(group, None, false);
        }
        // The prefix of one stack may be the beginning of another's.
        check("/aws/lambda/shiftgate-lab-ecs-lifecycle-ecs-lifecycle", Some("lab"), false);
    }
}
