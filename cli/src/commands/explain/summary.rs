//! One paragraph: what happened, why, and what to do.

use super::story::{Failure, Story};
use crate::ledger::Verdict;

/// What to do about a bad release, where its verdict says nothing.
const MEND: &str =
    "mend the release and deploy it again; the verdict's `report` line in the log has all checks";

/// The paragraph.
pub fn summary(story: &Story) -> String {
    if let Some(of) = &story.undoes {
        return format!(
            "This deployment is the rollback of {of}, and nothing holds a rollback up. Why it came: `shiftgate explain {of}`."
        );
    }
    if !story.is_over {
        return going_on(story);
    }
    if let Some(verdict) = story.verdicts.iter().find(|verdict| verdict.answer == "Failed") {
        return failed_by_us(story, verdict);
    }
    if let Some((code, message)) = &story.error {
        let (happened, todo) = by_others(story, code, message);
        let failures = failures(&story.failures);
        return format!("{happened}{failures} {} What to do: {todo}.", traffic(story));
    }
    ended_well(story)
}

fn going_on(story: &Story) -> String {
    let latest = story.moments.last();
    let latest = latest.map(|moment| format!(" The latest of Shiftgate: {} {}.", moment.stage, moment.text));
    format!(
        "The deployment is going on ({}).{} `shiftgate explain` tells more when it has ended.",
        story.status,
        latest.unwrap_or_default()
    )
}

fn failed_by_us(story: &Story, verdict: &Verdict) -> String {
    let Verdict { stage, reason, next_step, .. } = verdict;
    let todo = next_step.as_deref().unwrap_or(MEND).trim_end_matches('.');
    format!(
        "Shiftgate stopped it: {stage} answered Failed, since {reason}. {} What to do: {todo}.",
        traffic(story)
    )
}

/// Who else ended it, and what to do, by the code that AWS gives.
fn by_others(story: &Story, code: &str, message: &str) -> (String, String) {
    let controller = story.controller;
    match code {
        "ALARM_ACTIVE" => (
            format!("An alarm of the deployment group ended it, not Shiftgate: {message}"),
            "look at the alarm, and whether it rang for the release or for something else".to_owned(),
        ),
        "MANUAL_STOP" => (
            "Somebody or something stopped it by hand; Shiftgate's log has no verdict that did.".to_owned(),
            "look into CloudTrail for who called StopDeployment".to_owned(),
        ),
        "HOOK_EXECUTION_FAILURE" => (
            "A hook failed it, and Shiftgate's log has no verdict that did.".to_owned(),
            "see which lifecycle event failed, and which function the AppSpec names for it; the function's own log has the reason".to_owned(),
        ),
        "IAM_ROLE_PERMISSIONS" => (
            format!("CodeDeploy's role may not do what it must: {message}"),
            "allow it lambda:InvokeFunction; with AWSCodeDeployRoleForECSLimited it may invoke only functions that are called CodeDeployHook_*".to_owned(),
        ),
        "TIMEOUT" => (
            format!("Something took longer than CodeDeploy waits: {message}"),
            "see which lifecycle event was going on; a hook that never answered has a `failed` line in its log, or no line at all if it could not be invoked".to_owned(),
        ),
        _ => (
            format!("{controller} ended it, and no verdict of Shiftgate: {code}: {message}"),
            format!("look at the deployment in {controller}'s console"),
        ),
    }
}

/// Where traffic is now.
fn traffic(story: &Story) -> String {
    match (&story.undone, story.controller) {
        (Some(undone), _) => format!("It was undone: {undone}."),
        (None, "CodeDeploy") => {
            "CodeDeploy tells of no rollback: unless none was needed, turn on the deployment group's automatic rollback on failure.".to_owned()
        }
        (None, _) => "ECS tells of no rollback.".to_owned(),
    }
}

fn ended_well(story: &Story) -> String {
    let verdicts = story.verdicts.len();
    let observed = story.verdicts.iter().find(|verdict| verdict.would_have_rolled_back);
    let unclear: Vec<&Verdict> = story.verdicts.iter().filter(|one| one.outcome == "inconclusive").collect();
    let ours = match (observed, unclear.first()) {
        (Some(Verdict { stage, reason, .. }), _) => format!(
            "Shiftgate would have rolled it back, but for `mode: observe`: {stage} saw {reason}. What to do: if that was right, set `mode: enforce`; if not, see which gate it was and `shiftgate policy explain`."
        ),
        (None, _) if verdicts == 0 => "Shiftgate has said nothing of it: no hook named its functions, the log is no longer kept, or --stack names another stack.".to_owned(),
        (None, None) if verdicts == 1 => "The one verdict of Shiftgate was good.".to_owned(),
        (None, None) => format!("All {verdicts} verdicts of Shiftgate were good."),
        (None, Some(Verdict { stage, reason, .. })) => format!(
            "None of {verdicts} verdicts of Shiftgate was bad; {} inconclusive, first {stage}: {reason}.",
            if unclear.len() == 1 { "one was".to_owned() } else { format!("{} were", unclear.len()) },
        ),
    };
    format!("The release went through ({}). {ours}{}", story.status, failures(&story.failures))
}

/// The last thing that could not be done.
fn failures(failures: &[Failure]) -> String {
    failures.last().map_or_else(String::new, |Failure { what, hint }| {
        let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
        format!(" Shiftgate could not do all: {what}{hint}.")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::Line;

    fn story(change: impl FnOnce(&mut Story)) -> Story {
        let mut story = Story {
            deployment: "d-0B7YUA91L".to_owned(),
            controller: "CodeDeploy",
            status: "Failed".to_owned(),
            is_over: true,
            ..Story::default()
        };
        change(&mut story);
        story
    }

    fn verdict(said: Value) -> Verdict {
        let mut said = said;
        said["message"] = json!("verdict");
        Verdict::of(&Line { at: jiff::Timestamp::UNIX_EPOCH, said }).unwrap()
    }

    fn error(code: &str) -> impl FnOnce(&mut Story) {
        let error = Some((code.to_owned(), "as AWS says.".to_owned()));
        |story| story.error = error
    }

    #[test]
    fn what_the_verdict_says_to_do_is_one_sentence() {
        let said = json!({"stage": "watch", "answer": "Failed", "reason": "errors", "next_step": "Mend it."});
        let told = summary(&story(|story| story.verdicts = vec![verdict(said)]));
        assert!(told.ends_with("What to do: Mend it."), "{told}");
    }

    #[test]
    fn each_end_has_its_reason_and_what_to_do() {
        let good = || verdict(json!({"stage": "before-install", "answer": "Succeeded", "outcome": "pass"}));
        let unclear = || {
            verdict(json!({"stage": "after-allow-traffic", "answer": "Succeeded", "outcome": "inconclusive",
                "reason": "too little traffic"}))
        };
        let failed = || {
            verdict(json!({"stage": "watch", "answer": "Failed", "outcome": "fail",
                "reason": "server errors: green 3 % beside blue's 0 %"}))
        };
        let observed = || {
            verdict(json!({"stage": "watch", "answer": "Succeeded", "outcome": "fail",
                "reason": "server errors: green 3 %", "would_have_rolled_back": true}))
        };
        let cannot =
            || Failure { what: "cannot report: AWS denies it".to_owned(), hint: "allow it".to_owned() };
        let well = |story: &mut Story| story.status = "Succeeded".to_owned();
        let told: Vec<String> = [
            story(|story| {
                story.verdicts = vec![good(), failed()];
                story.error = Some(("MANUAL_STOP".to_owned(), "stopped".to_owned()));
                story.undone = Some("CodeDeploy rolled back with deployment d-4CEWT3UGR".to_owned());
            }),
            story(|story| story.undoes = Some("d-0B7YUA91L".to_owned())),
            story(|story| (story.is_over, story.status) = (false, "InProgress".to_owned())),
            story(error("ALARM_ACTIVE")),
            story(error("MANUAL_STOP")),
            story(error("IAM_ROLE_PERMISSIONS")),
            story(|story| {
                error("TIMEOUT")(story);
                story.failures.push(cannot());
            }),
            story(error("HOOK_EXECUTION_FAILURE")),
            story(error("ECS_UPDATE_ERROR")),
            story(|story| {
                well(story);
                story.verdicts = vec![good()];
            }),
            story(|story| {
                well(story);
                story.verdicts = vec![good(), unclear()];
            }),
            story(|story| {
                well(story);
                story.verdicts = vec![good(), observed()];
            }),
            story(well),
        ]
        .iter()
        .map(summary)
        .collect();
        insta::assert_snapshot!(told.join("\n\n"));
    }
}
