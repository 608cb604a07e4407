//! From findings to one answer. Pure.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, FaultKind};
use crate::policy::plan::{Choice, Mode};

/// What a check came to; the worst of several is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Checked, and good.
    Pass,
    /// Could not be told apart: too little data, or nothing to compare with.
    Inconclusive,
    /// Checked, and bad.
    Fail,
}

impl Outcome {
    /// The word that reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What CodeDeploy is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Answer {
    /// Go on.
    Succeeded,
    /// Stop, and roll back where the deployment group says so.
    Failed,
}

impl Answer {
    /// The status as CodeDeploy spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Units of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A ratio from 0 to 1, shown as a percentage.
    Share,
    /// Seconds.
    Seconds,
    /// Anything else: a count, or a metric's own unit.
    Plain,
}

/// A number with its unit, such as 5.3 % or 480 ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantity {
    /// The number, in the unit's base (a ratio, seconds, a count).
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

impl Quantity {
    /// A ratio from 0 to 1.
    pub fn share(value: f64) -> Self {
        Self { value, unit: Unit::Share }
    }

    /// A number of seconds.
    pub fn seconds(value: f64) -> Self {
        Self { value, unit: Unit::Seconds }
    }

    /// A number without a unit.
    pub fn plain(value: f64) -> Self {
        Self { value, unit: Unit::Plain }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Share => write!(f, "{} %", short(self.value * 100.0)),
            Unit::Seconds if self.value.abs() < 1.0 => write!(f, "{} ms", short(self.value * 1000.0)),
            Unit::Seconds => write!(f, "{} s", short(self.value)),
            Unit::Plain => f.write_str(&short(self.value)),
        }
    }
}

/// Three significant figures, without an exponent and without trailing zeros.
fn short(value: f64) -> String {
    let digits_before_point = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    let decimals = (3 - digits_before_point).clamp(0, 6) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How often chance alone would show as much as was seen, and how often it may.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ByChance {
    /// Share of good releases that would show as much, at most; 0 to 1.
    pub chance: f64,
    /// Share of good releases that this check may roll back; 0 to 1.
    pub allowed: f64,
}

impl ByChance {
    /// From the strongest of the evidence (natural logarithms of e-values); a chance is at most 1.
    pub fn of_evidence(evidence: impl Iterator<Item = f64>, allowed: f64) -> Self {
        Self { chance: (-evidence.fold(0.0, f64::max)).exp(), allowed }
    }
}

impl fmt::Display for ByChance {
    /// `1 in 3400 by chance (limit: 1 in 222)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by chance (limit: {})", one_in(self.chance), one_in(self.allowed))
    }
}

/// A chance (0 to 1) that was seen, as people say it. What half of all good releases show is no sign of anything.
pub fn sign(chance: f64) -> String {
    if chance > 0.5 { "no sign".to_owned() } else { one_in(chance) }
}

/// A chance (0 to 1) as people say it, such as `1 in 3400`.
pub fn one_in(chance: f64) -> String {
    let times = 1.0 / chance;
    if times < 1e6 { format!("1 in {times:.0}") } else { "less than 1 in a million".to_owned() }
}

/// Why a finding may mislead, or what it did not cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Caveat {
    /// The deployment has no test listener, so no request can reach green before it takes traffic.
    NoTestListener,
    /// The service has no load balancer, so no request can be made to reach green.
    NoLoadBalancer {
        /// The header by which Service Connect would, as name and value.
        test_header: Option<(String, String)>,
    },
    /// The release is a Lambda function, and the policy does not say with what to invoke it.
    NoPayload,
    /// No request of a smoke check meets the conditions of the test listener's rule.
    RuleNotMet {
        /// What does not fit.
        why: String,
    },
    /// No listener forwards to the target group yet, so the balancer does not check its targets.
    TargetGroupNotInUse {
        /// Name of the target group.
        target_group: String,
    },
    /// Some periods had too few requests to judge.
    FewRequests {
        /// Periods left out.
        periods: usize,
        /// Requests that a period needs.
        least: u64,
    },
    /// No period had data.
    NoData,
    /// Blue had no traffic beside green; its level from before was used.
    BlueFromBefore,
    /// Too little was measured before the shift to know how noisy the service is.
    ShortHistory {
        /// Periods before the shift that were looked at.
        periods: usize,
    },
    /// The metric has less than two days of history.
    FewDays,
    /// So little traffic that only a large regression can be told from chance.
    LowTraffic,
    /// A gate will judge nothing in a part of the rollout: its periods will have fewer requests than it needs.
    TooFewToJudge {
        /// What would judge instead.
        instead: String,
    },
    /// CloudWatch does not count the samples above a limit.
    NoTrimmedCount {
        /// The metric.
        metric: String,
        /// The percentile that was compared instead, such as 95.
        percentile: u32,
    },
    /// Blue had no data at all, so a comparison with it was not possible.
    NoBlue,
    /// CloudWatch answered only in part.
    PartialData {
        /// CloudWatch's own words.
        message: String,
    },
    /// Something in the event was not as expected.
    Unreadable {
        /// What, and where.
        what: String,
    },
    /// Something could not be told apart yet, and nothing waited for it here.
    NotClearYet {
        /// The check or gate.
        check: String,
        /// What it came to, in its own words.
        why: String,
    },
    /// The deployment ended, or was being rolled back, before the answer was given.
    AlreadyEnding {
        /// Its status.
        status: String,
    },
    /// A permission could not be exercised without side effects.
    NotExercised {
        /// The IAM action.
        action: String,
        /// Why not.
        reason: String,
    },
    /// The policy says observe: the finding had no consequence.
    Observed,
    /// The policy lets the release go on in spite of this.
    AllowedByPolicy {
        /// The policy key that allowed it.
        key: Cow<'static, str>,
    },
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTestListener => f.write_str(
                "the deployment has no test listener, so green was not tested before it took traffic; add a test traffic route (ECS: a testListenerRule)",
            ),
            Self::NoLoadBalancer { test_header: None } => f.write_str(
                "the service has no load balancer; let `smoke.base` name a URL at which green can be reached",
            ),
            Self::NoLoadBalancer { test_header: Some((name, value)) } => write!(
                f,
                "the service has no load balancer; Service Connect sends requests with the header {name}: {value} to green, so let `smoke.base` name a URL within its network"
            ),
            Self::NoPayload => f.write_str(
                "the policy has no smoke check with `invoke`, the payload to invoke the function with; none is made up",
            ),
            Self::RuleNotMet { why } => {
                write!(f, "{why}; give the check what the test listener's rule wants, or the rule another condition")
            }
            Self::TargetGroupNotInUse { target_group } => write!(
                f,
                "no listener forwards to target group {target_group} yet, so its health is unknown; judged by task counts"
            ),
            Self::FewRequests { periods, least } => {
                write!(f, "{periods} periods with fewer than {least} requests were left out")
            }
            Self::NoData => f.write_str("no data for green in the window; nothing was judged"),
            Self::BlueFromBefore => f.write_str("blue had no traffic beside green; compared with blue before"),
            Self::ShortHistory { .. } => f.write_str(
                "too little was measured before the shift to know how noisy the service is; a regression takes longer to be told from noise",
            ),
            Self::FewDays => f.write_str(
                "less than two days of this metric are known; what the hour of the day does to it may look like a change",
            ),
            Self::LowTraffic => f.write_str(
                "so little traffic that only a large regression can be told from chance; a larger first step, a longer shift or more smoke checks would show more",
            ),
            Self::TooFewToJudge { instead } => write!(f, "too few requests for this gate: {instead}"),
            Self::NoTrimmedCount { metric, percentile } => write!(
                f,
                "CloudWatch does not count slow samples of {metric} (statistic TC); the p{percentile} of each period was compared instead, which needs a dozen periods"
            ),
            Self::NoBlue => f.write_str("blue had no data; the comparison with it was not made"),
            Self::PartialData { message } => write!(f, "CloudWatch answered in part: {message}"),
            Self::Unreadable { what } => write!(f, "the event from ECS is not as expected: {what}"),
            Self::NotClearYet { check, why } => write!(f, "{check} was not clear yet: {why}"),
            Self::AlreadyEnding { status } => write!(
                f,
                "the deployment is {status} by now; a failed answer could only break its rollback, so none was given"
            ),
            Self::NotExercised { action, reason } => write!(f, "{action} was not tried: {reason}"),
            Self::Observed => f.write_str("mode is observe: the release goes on whatever was found"),
            Self::AllowedByPolicy { key } => write!(f, "the release goes on because the policy says `{key}: proceed`"),
        }
    }
}

/// What one check saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Name of the check or gate.
    pub check: String,
    /// What it came to.
    pub outcome: Outcome,
    /// One sentence for the reader.
    pub summary: String,
    /// The worst value seen on green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Quantity>,
    /// Blue's value beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue: Option<Quantity>,
    /// The limit that applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Quantity>,
    /// Requests (or samples) behind the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// How often chance alone would show as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_chance: Option<ByChance>,
    /// Complete periods (minutes, as a rule) that were judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<usize>,
    /// Why it may mislead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<Caveat>,
    /// Set when the check could not be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultNote>,
}

/// A fault as a finding carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultNote {
    /// The kind.
    pub kind: FaultKind,
    /// What to do.
    pub hint: String,
}

impl Finding {
    /// A finding with nothing but its sentence.
    pub fn new(check: impl Into<String>, outcome: Outcome, summary: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            outcome,
            summary: summary.into(),
            value: None,
            blue: None,
            limit: None,
            samples: None,
            by_chance: None,
            periods: None,
            caveats: Vec::new(),
            fault: None,
        }
    }

    /// A check that could not be made. Whether that stops the release is the policy's to say (`on_fault`).
    pub fn from_fault(check: impl Into<String>, fault: &Fault) -> Self {
        Self {
            fault: Some(FaultNote { kind: fault.kind, hint: fault.hint.clone() }),
            ..Self::new(check, Outcome::Inconclusive, fault.chain())
        }
    }

    /// The same with a caveat more.
    #[must_use]
    pub fn but(mut self, caveat: Caveat) -> Self {
        self.caveats.push(caveat);
        self
    }
}

/// The findings of a stage, gathered check by check; a check that could not be made becomes a finding too.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a check found, or the fault that kept it from looking.
    #[must_use]
    pub fn and(mut self, check: &str, found: Result<Vec<Finding>, Fault>) -> Self {
        match found {
            Ok(findings) => self.0.extend(findings),
            Err(fault) => self.0.push(Finding::from_fault(check, &fault)),
        }
        self
    }

    /// Adds what others found.
    #[must_use]
    pub fn with(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Whether something could not be checked and will not heal by itself.
    pub fn any_lasting_fault(&self) -> bool {
        self.0.iter().filter_map(|finding| finding.fault.as_ref()).any(|fault| !fault.kind.may_heal())
    }

    /// What a later look may be able to check, if something could not be checked now.
    pub fn passing_fault(&self) -> Option<Fault> {
        self.0.iter().find_map(|finding| {
            let note = finding.fault.as_ref().filter(|note| note.kind.may_heal())?;
            Some(Fault::new(note.kind, format!("{}: {}", finding.check, finding.summary), &note.hint))
        })
    }

    /// Whether the release must end now: for what was seen, or because something will never be seen.
    pub fn end_it(&self, rules: Rules) -> bool {
        self.any_fail() || (rules.on_fault == Choice::Fail && self.any_lasting_fault())
    }

    /// Whether everything was checked, and good.
    pub fn all_pass(&self) -> bool {
        self.0.iter().all(|finding| finding.outcome == Outcome::Pass)
    }

    /// Whether something is bad enough to end the release whatever else is found.
    pub fn any_fail(&self) -> bool {
        self.0.iter().any(|finding| finding.outcome == Outcome::Fail)
    }
}

impl From<Findings> for Vec<Finding> {
    fn from(findings: Findings) -> Self {
        findings.0
    }
}

/// The policy's say in a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Enforce or observe.
    pub mode: Mode,
    /// What to do when a check could not be told apart.
    pub on_inconclusive: Choice,
    /// What to do when a check could not be made.
    pub on_fault: Choice,
}

impl Default for Rules {
    /// What holds before the policy is known: fail closed.
    fn default() -> Self {
        Self { mode: Mode::Enforce, on_inconclusive: Choice::Proceed, on_fault: Choice::Fail }
    }
}

/// What a stage came to: an outcome, an answer, and all that led there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The worst of the findings, with faults counted as the policy says.
    pub outcome: Outcome,
    /// What CodeDeploy is told.
    pub answer: Answer,
    /// The sentence that explains the answer.
    pub reason: String,
    /// Everything seen.
    pub findings: Vec<Finding>,
    /// Caveats about the verdict as a whole.
    pub caveats: Vec<Caveat>,
    /// Whether the answer would be another one if the policy did not say observe.
    pub would_have_rolled_back: bool,
}

/// Draws the conclusion. No finding at all is not a pass: a stage that checked nothing says inconclusive.
pub fn conclude(findings: Vec<Finding>, rules: Rules) -> Verdict {
    let judged = |finding: &Finding| match (&finding.fault, rules.on_fault) {
        (Some(_), Choice::Fail) => Outcome::Fail,
        _ => finding.outcome,
    };
    // What was seen is told before what could not be; of equals the first (`max_by_key` keeps the last).
    let worst = findings.iter().rev().max_by_key(|finding| (judged(finding), finding.fault.is_none()));
    let outcome = worst.map_or(Outcome::Inconclusive, judged);
    let reason = match worst {
        None => "nothing was checked".to_owned(),
        Some(_) if outcome == Outcome::Pass && findings.len() > 1 => {
            format!("all {} checks passed", findings.len())
        }
        Some(finding) => format!("{}: {}", finding.check, finding.summary),
    };
    let mut caveats = Vec::new();
    // A fault that the policy forgives must not be failed by the back door of `on_inconclusive`.
    let unclear = findings.is_empty()
        || findings.iter().any(|finding| finding.fault.is_none() && finding.outcome == Outcome::Inconclusive);
    if outcome == Outcome::Inconclusive && findings.iter().any(|finding| finding.fault.is_some()) {
        caveats.push(Caveat::AllowedByPolicy { key: "on_fault".into() });
    }
    let enforced = match outcome {
        Outcome::Fail => Answer::Failed,
        Outcome::Inconclusive if unclear && rules.on_inconclusive == Choice::Fail => Answer::Failed,
        Outcome::Inconclusive => {
            if unclear {
                caveats.push(Caveat::AllowedByPolicy { key: "on_inconclusive".into() });
            }
            Answer::Succeeded
        }
        Outcome::Pass => Answer::Succeeded,
    };
    let answer = match rules.mode {
        Mode::Enforce => enforced,
        Mode::Observe => {
            caveats.push(Caveat::Observed);
            Answer::Succeeded
        }
    };
    Verdict { outcome, answer, reason, findings, caveats, would_have_rolled_back: enforced != answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(mode: Mode, on_inconclusive: Choice, on_fault: Choice) -> Rules {
        Rules { mode, on_inconclusive, on_fault }
    }

    fn finding(outcome: Outcome) -> Finding {
        Finding::new("gate", outcome, "seen")
    }

    fn fault() -> Finding {
        Finding::from_fault("gate", &Fault::new(FaultKind::Denied, "denied", "allow it"))
    }

    #[test]
    fn the_answer_follows_the_worst_finding_and_the_policy() {
        use Answer::{Failed, Succeeded};
        use Choice::{Fail, Proceed};
        use Mode::{Enforce, Observe};
        use Outcome::{Inconclusive, Pass};
        let table: &[(Vec<Finding>, Rules, Outcome, Answer)] = &[
            (vec![finding(Pass)], Rules::default(), Pass, Succeeded),
            (vec![], Rules::default(), Inconclusive, Succeeded),
            (vec![], rules(Enforce, Fail, Fail), Inconclusive, Failed),
            (vec![finding(Pass), finding(Inconclusive)], Rules::default(), Inconclusive, Succeeded),
            (vec![finding(Inconclusive)], rules(Enforce, Fail, Fail), Inconclusive, Failed),
            (vec![finding(Outcome::Fail), finding(Pass)], Rules::default(), Outcome::Fail, Failed),
            (vec![finding(Outcome::Fail)], rules(Observe, Fail, Fail), Outcome::Fail, Succeeded),
            (vec![fault(), finding(Pass)], Rules::default(), Outcome::Fail, Failed),
            (vec![fault()], rules(Enforce, Proceed, Proceed), Inconclusive, Succeeded),
            // The forgiven fault is not failed as inconclusive, but a really unclear gate beside it is.
            (vec![fault()], rules(Enforce, Fail, Proceed), Inconclusive, Succeeded),
            (vec![fault(), finding(Inconclusive)], rules(Enforce, Fail, Proceed), Inconclusive, Failed),
        ];
        for (findings, rules, outcome, answer) in table {
            let verdict = conclude(findings.clone(), *rules);
            assert_eq!((verdict.outcome, verdict.answer), (*outcome, *answer), "{findings:?} {rules:?}");
        }
    }

    #[test]
    fn a_pass_that_the_policy_grants_says_so() {
        let verdict = conclude(vec![finding(Outcome::Inconclusive)], Rules::default());
        assert_eq!(verdict.caveats, [Caveat::AllowedByPolicy { key: "on_inconclusive".into() }]);
    }

    #[test]
    fn quantities_read_well() {
        let shown: Vec<String> = [
            Quantity::share(0.053),
            Quantity::share(0.0),
            Quantity::share(1.0),
            Quantity::seconds(0.48),
            Quantity::seconds(12.5),
            Quantity::plain(1234.0),
            Quantity::plain(0.001_234),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(shown, ["5.3 %", "0 %", "100 %", "480 ms", "12.5 s", "1234", "0.00123"]);
    }

    proptest! {
        #[test]
        fn a_further_finding_never_turns_failed_into_succeeded(
            outcomes in proptest::collection::vec(0_usize..4, 0..6), more in 0_usize..4, order in any::<u64>(),
        ) {
            let make = |index: &usize| match index { 0 => finding(Outcome::Pass), 1 => finding(Outcome::Inconclusive), 2 => finding(Outcome::Fail), _ => fault() };
            let mut findings: Vec<Finding> = outcomes.iter().map(make).collect();
            let before = conclude(findings.clone(), Rules::default()).answer;
            findings.insert(order as usize % (findings.len() + 1), make(&more));
            let after = conclude(findings, Rules::default()).answer;
            prop_assert!(before == Answer::Succeeded || after == Answer::Failed);
        }
    }
}
