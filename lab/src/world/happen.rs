//! What befalls a deployment on its way: when an event of a scenario is due, and what it changes.

use std::sync::Arc;

use crate::application::Behaviour;
use crate::endpoint::Services;
use crate::fault::Rule;
use crate::scenario::Event;
use crate::underway::{Moment, Version};

/// Whether an event is due. Not every way of deploying has every weight, so the first one that is as large counts.
pub(super) fn is_now(event: &Event, moment: Moment) -> bool {
    match moment {
        Moment::Begun => event.when.stage.is_none() && event.when.weight.is_none(),
        Moment::Stage(name) => event.when.stage.as_deref() == Some(name),
        Moment::Weight(green) => event.when.weight.is_some_and(|weight| green >= weight),
    }
}

/// One event of a scenario on its way.
pub(super) struct Happen {
    pub event: Event,
    /// Blue's and green's behaviour before it.
    pub normal: [Behaviour; 2],
    pub blue: Version,
    pub green: Option<Version>,
    pub services: Arc<Services>,
    /// The deployment's id, by which its watch is named.
    pub deployment: String,
}

impl Happen {
    pub async fn run(self) {
        if let Some(after) = self.event.when.after {
            tokio::time::sleep(after.0).await;
        }
        self.behave(self.event.blue.as_ref(), self.event.green.as_ref());
        if self.event.abort_watch {
            self.services.stepfunctions.abort(&self.deployment);
        }
        let rule = self.event.aws.as_ref();
        let rule = rule.map(|fault| Rule::lasting(&fault.action, fault.caller.as_deref(), fault.fault));
        if let Some(rule) = &rule {
            self.services.faults.add(rule.clone());
        }
        let Some(lasting) = self.event.lasting else { return };
        tokio::time::sleep(lasting.0).await;
        let [blue, green] = &self.normal;
        self.behave(self.event.blue.as_ref().map(|_| blue), self.event.green.as_ref().map(|_| green));
        if let Some(rule) = &rule {
            self.services.faults.remove(rule);
        }
    }

    fn behave(&self, blue: Option<&Behaviour>, green: Option<&Behaviour>) {
        if let Some(behaviour) = blue {
            self.blue.behave(behaviour);
        }
        if let (Some(behaviour), Some(version)) = (green, &self.green) {
            version.behave(behaviour);
        }
    }
}
