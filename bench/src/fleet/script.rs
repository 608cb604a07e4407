//! What the functions call, one call after the other: those that are made at once use as much of a quota. Held against the real
//! ones by `bench fleet`, which prints both counts.

use super::ATTEMPTS;

/// The one action that a look leaves out while there is nothing to read.
pub(super) const METRICS: &str = "cloudwatch:GetMetricData";

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// IAM action.
    pub action: &'static str,
    /// Attempts before it is given up.
    pub attempts: u32,
    /// Whether a function cannot go on without it.
    pub is_needed: bool,
}

/// The calls of one piece of work.
pub type Script = Vec<Ask>;

/// The calls of everything that happens from the shift on.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// A look of the watch that knows its service.
    pub look: Script,
    /// The rollback.
    pub stop: Script,
    /// A hook opens the release, and looks for the first time.
    pub open: Script,
    /// Each later look of the bake.
    pub again: Script,
    /// The last one.
    pub last: Script,
    /// The hook's report.
    pub report: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        const SERIES: Ask = needed(METRICS);
        const TARGET: Ask = needed("codedeploy:GetDeploymentTarget");
        const HEALTH: Ask = needed("elasticloadbalancing:DescribeTargetHealth");
        const DEPLOYMENT: Ask = needed("codedeploy:GetDeployment");
        const POLICY: Ask = needed("ssm:GetParameters");
        // What a look asks in passing.
        const IN_PASSING: Ask = Ask { attempts: 2, is_needed: false, ..HEALTH };
        Self {
            // What is slow was found out by the first look.
            look: vec![DEPLOYMENT, POLICY, TARGET, IN_PASSING, SERIES],
            stop: vec![needed("codedeploy:StopDeployment")],
            open: vec![
                DEPLOYMENT,
                needed("codedeploy:ListDeploymentTargets"),
                needed("states:DescribeExecution"),
                POLICY,
                TARGET,
                SERIES,
                SERIES,
                IN_PASSING,
            ],
            again: vec![TARGET, SERIES, IN_PASSING],
            last: vec![TARGET, SERIES, HEALTH],
            report: vec![needed("codedeploy:PutLifecycleEventHookExecutionStatus")],
        }
    }
}

const fn needed(action: &'static str) -> Ask {
    Ask { action, attempts: ATTEMPTS, is_needed: true }
}

impl Scripts {
    /// How often a look of the watch calls an action that `covers` it.
    pub fn in_a_look(&self, covers: impl Fn(&str) -> bool) -> usize {
        self.look.iter().filter(|ask| covers(ask.action)).count()
    }
}
