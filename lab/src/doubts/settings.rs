//! The settings of each doubt. The default is what the lab takes for most plausible, or for hardest on a gate.

use serde::{Deserialize, Serialize};

macro_rules! settings {
    ($($(#[$about:meta])* $name:ident { $(#[$usual_about:meta])* $usual:ident $(, $(#[$other_about:meta])* $other:ident)+ $(,)? })+) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "snake_case")]
            pub enum $name {
                $(#[$usual_about])*
                #[default]
                $usual,
                $($(#[$other_about])* $other,)+
            }
        )+
    };
}

settings! {
    /// Hooks of CodeDeploy in a rollback deployment of a service.
    RollbackHooks {
        /// Their functions are called.
        Called,
        /// They are not, as it was seen with Lambda functions.
        NotCalled,
    }

    /// `StopDeployment` while CodeDeploy waits before it stops the old version.
    StopInTerminationWait {
        /// It stops the deployment.
        Accepted,
        /// The deployment is said to have completed.
        Refused,
    }

    /// CodeDeploy and an error of a hook's function.
    HookErrors {
        /// It waits for a report until the hour is over.
        Unnoticed,
        /// It ends the hook at the first error.
        Noticed,
    }

    /// How often Lambda hands a hook's event over.
    HookDelivery {
        /// Once.
        Once,
        /// Twice at the same time, and once more when the hook has been answered.
        Repeated,
    }

    /// What `GetDeploymentTarget` tells of lifecycle events.
    EventStates {
        /// Where they stand.
        AtOnce,
        /// Where they stood a third of a minute ago.
        Late,
    }

    /// The lifecycle events of a deployment that has ended.
    FinishedEvents {
        /// They can be read.
        Readable,
        /// They are left out.
        Gone,
    }

    /// The target groups and listeners of a deployment that is asked for.
    DeploymentBalancer {
        /// They are told as they are of its deployment group.
        Told,
        /// They are left out.
        LeftOut,
    }

    /// What CodeDeploy rewrites of the production listener.
    ListenerRules {
        /// The default action.
        DefaultAction,
        /// Every rule that forwards to one of the two target groups, too.
        All,
    }

    /// How a hook names its function.
    HookNames {
        /// By its name.
        Unqualified,
        /// By an ARN with an alias behind it.
        Qualified,
    }

    /// A function's `targetVersionWeight`.
    FunctionWeights {
        /// From 0 to 1.
        Fraction,
        /// From 0 to 100.
        Percent,
    }

    /// When hooks at `PRODUCTION_TRAFFIC_SHIFT` are called.
    ProductionHook {
        /// After the step's traffic has shifted, before the step bakes.
        AfterShift,
        /// Before it shifts.
        BeforeShift,
        /// After the step has baked.
        AfterBake,
    }

    /// How traffic weights are written in the event of a hook of ECS.
    EventWeights {
        /// Without a point where they are whole, as in all public samples.
        AsNeeded,
        /// Rounded: 0.1 % is 0.
        Integers,
        /// Always with a point: 100.0.
        Fractions,
    }

    /// How long `hookDetails` that a hook returned with `IN_PROGRESS` are passed on to it.
    HookDetails {
        /// To all its further invocations in the deployment.
        WholeDeployment,
        /// To its next invocations at the same stage and step.
        WithinStage,
        /// Not at all.
        Never,
    }

    /// `PRE_PRODUCTION_TRAFFIC_SHIFT` before the step to 100 %.
    LastStepHook {
        /// Its hooks are called.
        Called,
        /// They are not.
        LeftOut,
    }

    /// The weights in an event of `PRE_PRODUCTION_TRAFFIC_SHIFT`.
    WeightsBeforeStep {
        /// Those of the moment.
        Current,
        /// Those that the step will bring.
        Requested,
    }

    /// The `lifecycleStage` that is told during `PRE_PRODUCTION_TRAFFIC_SHIFT`. The API's text lists it and its
    /// enumeration does not.
    StageBeforeStep {
        /// Its own.
        Shown,
        /// `PRODUCTION_TRAFFIC_SHIFT`.
        NotShown,
    }

    /// At which stages ECS calls hooks in a rollback.
    RollbackStages {
        /// At both traffic shifts.
        BothShifts,
        /// At `PRODUCTION_TRAFFIC_SHIFT` alone.
        Production,
    }

    /// A FAILED answer to a hook that is called in a rollback.
    FailedInRollback {
        /// The rollback fails.
        BreaksIt,
        /// The rollback goes on.
        Ignored,
    }

    /// `callBackDelay` in a hook's answer. Some pages call it `callBackDelaySeconds`.
    CallBackDelay {
        /// It is read.
        Read,
        /// It is not: the next call comes after the usual delay.
        Unread,
    }

    /// `SERVICE_DEPLOYMENT_FAILED` on the event bus.
    FailedEvent {
        /// It is sent for every failure.
        Always,
        /// It is sent where the service has a circuit breaker, as the documentation promises.
        WithCircuitBreaker,
    }

    /// What becomes of a query for a trimmed count (`TC`).
    TrimmedCounts {
        /// It is answered.
        Served,
        /// It is answered without datapoints.
        Empty,
        /// The whole call is refused.
        Refused,
    }

    /// When a metric's value is complete.
    MetricValues {
        /// After the ingestion delay.
        Settled,
        /// A tenth of it comes later, some of it after ten minutes.
        Growing,
    }

    /// Metrics with the dimension `ExecutedVersion` of an alias.
    VersionMetrics {
        /// They are always there.
        Always,
        /// They are there while the alias points to two versions.
        BetweenVersions,
    }
}
