//! The ways in which a scenario of a service can be played, other than the one that its file names.

use std::time::Duration;

use shiftgate::policy::values::Span;

use super::{Controller, Event, Expect, Scenario, ShiftSpec, Step};

/// Three days of the lab's minutes, or so.
const LONG_PAST: Duration = Duration::from_hours(6);

/// A way in which all scenarios can be played, whatever they say themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// CodeDeploy, canary.
    CodeDeployCanary,
    /// CodeDeploy, linear.
    CodeDeployLinear,
    /// ECS, all at once.
    EcsBlueGreen,
    /// ECS, canary.
    EcsCanary,
    /// ECS, linear.
    EcsLinear,
    /// ECS, task after task.
    EcsRolling,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CodeDeployCanary,
        Self::CodeDeployLinear,
        Self::EcsBlueGreen,
        Self::EcsCanary,
        Self::EcsLinear,
        Self::EcsRolling,
    ];

    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CodeDeployCanary => "CodeDeploy canary",
            Self::CodeDeployLinear => "CodeDeploy linear",
            Self::EcsBlueGreen => "ECS blue/green",
            Self::EcsCanary => "ECS canary",
            Self::EcsLinear => "ECS linear",
            Self::EcsRolling => "ECS rolling",
        }
    }

    fn controller(self) -> Controller {
        match self {
            Self::CodeDeployCanary | Self::CodeDeployLinear => Controller::CodeDeploy,
            _ => Controller::Ecs,
        }
    }
}

impl Scenario {
    /// The same scenario in another way of deploying; `None` where it is about something that this way does not have.
    #[must_use]
    pub fn in_way(&self, way: Way) -> Option<Self> {
        // A function has no balancer and no tasks: nothing that is said of one holds for a service.
        if self.controller == Controller::Lambda
            || self.only.is_some_and(|only| only != way.controller())
            || (way == Way::EcsRolling && self.needs_a_shift())
            || (way == Way::EcsBlueGreen && self.needs_both)
        {
            return None;
        }
        let Step { percent, minutes } = match (self.shift.canary, self.shift.linear) {
            (Some(step), _) => step,
            (None, Some(Step { percent, minutes })) => {
                Step { percent, minutes: minutes * (100.0 / percent - 1.0) }
            }
            (None, None) => Step { percent: 10.0, minutes: 5.0 },
        };
        let shift = match way {
            Way::CodeDeployCanary | Way::EcsCanary => {
                ShiftSpec { canary: Some(Step { percent, minutes }), ..ShiftSpec::default() }
            }
            Way::CodeDeployLinear | Way::EcsLinear => {
                let linear = self.shift.linear.unwrap_or(Step { percent: 25.0, minutes: minutes / 3.0 });
                ShiftSpec { linear: Some(linear), ..ShiftSpec::default() }
            }
            Way::EcsBlueGreen => ShiftSpec { all_at_once: true, ..ShiftSpec::default() },
            Way::EcsRolling => ShiftSpec { rolling: true, ..ShiftSpec::default() },
        };
        let mut service = self.service.clone();
        if way == Way::EcsRolling {
            // Both versions share a target group: there is only the past to compare with.
            service.past = Span(LONG_PAST.max(service.past.0));
        }
        // Who sees it, and in which words, depends on the way; what comes of it must not.
        let expect = self.expect.clone().map(|expect| Expect { only_the_outcome: true, ..expect });
        Some(Self { shift, service, expect, controller: way.controller(), ..self.clone() })
    }

    /// Whether it is about something before or during a shift of traffic, which a rolling update does not have.
    fn needs_a_shift(&self) -> bool {
        let waits_for_it = |event: &Event| event.when.weight.is_some() || event.when.stage.is_some();
        self.needs_hooks || self.events.iter().any(waits_for_it)
    }
}
