//! What must be true of every play, whatever went wrong in it. Pure.

use shiftgate::event::Stage;

use super::case::{CallFault, Case, Mishap, Quality};

/// The call that reports.
const REPORT: &str = "codedeploy:PutLifecycleEventHookExecutionStatus";
/// The call that rolls back.
const STOP: &str = "codedeploy:StopDeployment";

/// What came of a play.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Errors of the invocations, in Lambda's words; none for one that answered.
    pub invocations: Vec<Option<String>>,
    /// The answer that counts: the hook's report, ECS's answer, or whether the watch let the release go on. None when there
    /// was none.
    pub passed: Option<bool>,
    /// Reports that CodeDeploy took.
    pub reports_taken: usize,
    /// Executions of the state machine that began.
    pub executions: usize,
    /// Whether all of them have ended by themselves.
    pub executions_ended: bool,
    /// Whether the deployment was stopped by a function.
    pub stopped: bool,
    /// Everything that the functions logged and answered.
    pub log: String,
    /// What of it tells why: findings that are no plain pass, caveats, failures.
    pub reasons: String,
    /// What must stand in no log.
    pub secrets: Vec<String>,
}

/// Something that must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A hook got no answer, and nobody was told.
    Unreported,
    /// An invocation ran into Lambda's own time limit.
    OutOfBudget,
    /// An effect took place twice.
    DoubleEffect,
    /// A bad release passed without a word, or a good one failed for a reason that is none.
    WrongVerdict,
    /// A good release was rolled back for a reason that is none.
    WrongStop,
    /// A secret, or the text of a panic, stands in a log.
    Leak,
    /// An execution of the state machine goes on after its deployment.
    EndlessWatch,
}

/// Everything that is wrong with a play.
pub fn judge(case: &Case, seen: &Observed) -> Vec<Violation> {
    let checks = [
        (Violation::Unreported, is_unreported(case, seen)),
        (Violation::OutOfBudget, seen.invocations.iter().flatten().any(|error| error.contains("timed out"))),
        (Violation::DoubleEffect, seen.reports_taken > 1 || seen.executions > 1),
        (Violation::WrongVerdict, is_wrong(case, seen)),
        (
            Violation::WrongStop,
            seen.stopped && case.quality == Quality::Good && !names_a_hindrance(case, seen),
        ),
        (Violation::Leak, leaks(seen)),
        (Violation::EndlessWatch, !seen.executions_ended),
    ];
    checks.into_iter().filter_map(|(violation, holds)| holds.then_some(violation)).collect()
}

/// Whether a fault of reports outlasted all of Lambda's tries. The last one was an error then, which alarms and the on-failure
/// destination tell.
pub fn could_not_report(case: &Case, seen: &Observed) -> bool {
    let of_reports = |error: &String| error.contains(REPORT) || error.contains("did not take the report");
    case.faults.iter().any(|fault| fault.action == REPORT)
        && ends_in_error(seen)
        && seen.invocations.iter().flatten().any(of_reports)
}

fn is_unreported(case: &Case, seen: &Observed) -> bool {
    match case.subject.0 {
        // The watch answers to nobody. It must have said what it saw.
        Stage::Watch => false,
        // ECS takes an error for FAILED.
        Stage::Ecs(_) => seen.passed.is_none() && !seen.invocations.iter().any(Option::is_some),
        // Nobody waits any more; that must not be an error, or Lambda would call again.
        _ if case.mishap == Some(Mishap::Over) => ends_in_error(seen) && !could_not_report(case, seen),
        _ => seen.passed.is_none() && !could_not_report(case, seen),
    }
}

fn ends_in_error(seen: &Observed) -> bool {
    seen.invocations.last().is_some_and(Option::is_some)
}

fn is_wrong(case: &Case, seen: &Observed) -> bool {
    let right = case.quality == Quality::Good;
    seen.passed.is_some_and(|passed| passed != right) && !names_a_hindrance(case, seen)
}

/// Whether a reader is told why the answer is not the one that the release deserves: the call that failed, the time that
/// ran out, or the deployment that was over.
fn names_a_hindrance(case: &Case, seen: &Observed) -> bool {
    let named = |text: &str| seen.reasons.contains(text);
    let told =
        |fault: &CallFault| if fault.fault.is_of_clocks() { named("clock") } else { named(&fault.action) };
    let of_calls = case.faults.iter().any(told);
    let of_time = named("not done within") || named("signal: killed");
    case.is_hindered() && (of_calls || of_time)
        || (case.mishap == Some(Mishap::Over) && (named("already_completed") || named("the deployment is")))
        // A watch that may not stop the deployment says so at every look.
        || (case.never_succeeds(STOP) && named(STOP))
}

fn leaks(seen: &Observed) -> bool {
    seen.log.contains("panicked") || seen.secrets.iter().any(|secret| seen.log.contains(secret.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::case::Subject;
    use super::*;
    use crate::fault::Fault;

    fn case(stage: Stage, quality: Quality) -> Case {
        Case::undisturbed(Subject(stage), quality)
    }

    fn answered(passed: bool) -> Observed {
        Observed {
            invocations: vec![None],
            passed: Some(passed),
            reports_taken: 1,
            executions_ended: true,
            secrets: vec!["hush".to_owned()],
            ..Observed::default()
        }
    }

    #[test]
    fn each_wrong_is_seen() {
        let hook = case(Stage::AfterInstall, Quality::Good);
        let bad = case(Stage::AfterInstall, Quality::Bad);
        let good = answered(true);
        let told = |text: &str| Observed { log: text.to_owned(), ..answered(true) };
        for (case, seen, expected) in [
            (&hook, good.clone(), vec![]),
            (&bad, answered(false), vec![]),
            (&hook, Observed { passed: None, ..good.clone() }, vec![Violation::Unreported]),
            (&hook, answered(false), vec![Violation::WrongVerdict]),
            (&bad, good.clone(), vec![Violation::WrongVerdict]),
            (&hook, Observed { reports_taken: 2, ..good.clone() }, vec![Violation::DoubleEffect]),
            (&hook, Observed { stopped: true, ..good.clone() }, vec![Violation::WrongStop]),
            (&hook, Observed { executions_ended: false, ..good.clone() }, vec![Violation::EndlessWatch]),
            (&hook, told("token hush"), vec![Violation::Leak]),
            (&hook, told("thread main panicked at"), vec![Violation::Leak]),
            (
                &hook,
                Observed {
                    invocations: vec![Some("Task timed out after 8 seconds".to_owned()), None],
                    ..good.clone()
                },
                vec![Violation::OutOfBudget],
            ),
        ] {
            assert_eq!(judge(case, &seen), expected, "{case} {seen:?}");
        }
    }

    #[test]
    fn a_failed_answer_that_names_its_fault_is_right() {
        let fault =
            |action: &str| CallFault { action: action.to_owned(), fault: Fault::Deny, calls: 0..u32::MAX };
        let denied =
            Case { faults: vec![fault("ssm:GetParameter")], ..case(Stage::AfterInstall, Quality::Good) };
        let why = "AWS denies ssm:GetParameter".to_owned();
        assert_eq!(judge(&denied, &Observed { reasons: why, ..answered(false) }), vec![]);
        assert_eq!(judge(&denied, &answered(false)), vec![Violation::WrongVerdict]);
        let mute = Case { faults: vec![fault(REPORT)], ..denied };
        let unheard = Observed { passed: None, reports_taken: 0, ..answered(false) };
        assert_eq!(
            judge(&mute, &unheard),
            vec![Violation::Unreported],
            "an invocation that could not report must fail"
        );
        let loud = Observed { invocations: vec![Some(format!("cannot report ({REPORT})"))], ..unheard };
        assert_eq!(judge(&mute, &loud), vec![]);
    }
}
