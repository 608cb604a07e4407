//! Compute platforms, their lifecycle events, and the configurations by which traffic shifts.

/// Where a group deploys to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// ECS services.
    Ecs,
    /// Lambda functions behind an alias.
    Lambda,
    /// EC2 instances and other servers; the lab only knows that they exist.
    Server,
}

impl Platform {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecs => "ECS",
            Self::Lambda => "Lambda",
            Self::Server => "Server",
        }
    }

    /// The lifecycle events of a deployment, in order.
    pub fn events(self) -> &'static [&'static str] {
        match self {
            Self::Ecs => &[
                "BeforeInstall",
                "Install",
                "AfterInstall",
                "AllowTestTraffic",
                "AfterAllowTestTraffic",
                "BeforeAllowTraffic",
                "AllowTraffic",
                "AfterAllowTraffic",
            ],
            Self::Lambda => &["BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"],
            Self::Server => &[],
        }
    }

    /// The predefined configurations, without `CodeDeployDefault` and the platform.
    fn predefined(self) -> &'static [(&'static str, Shift)] {
        match self {
            Self::Ecs => &[
                ("AllAtOnce", Shift::AllAtOnce),
                ("Canary10Percent5Minutes", Shift::Canary { percent: 10.0, minutes: 5.0 }),
                ("Canary10Percent15Minutes", Shift::Canary { percent: 10.0, minutes: 15.0 }),
                ("Linear10PercentEvery1Minutes", Shift::Linear { percent: 10.0, minutes: 1.0 }),
                ("Linear10PercentEvery3Minutes", Shift::Linear { percent: 10.0, minutes: 3.0 }),
            ],
            Self::Lambda => &[
                ("AllAtOnce", Shift::AllAtOnce),
                ("Canary10Percent5Minutes", Shift::Canary { percent: 10.0, minutes: 5.0 }),
                ("Canary10Percent10Minutes", Shift::Canary { percent: 10.0, minutes: 10.0 }),
                ("Canary10Percent15Minutes", Shift::Canary { percent: 10.0, minutes: 15.0 }),
                ("Canary10Percent30Minutes", Shift::Canary { percent: 10.0, minutes: 30.0 }),
                // ECS has the plural even here.
                ("Linear10PercentEvery1Minute", Shift::Linear { percent: 10.0, minutes: 1.0 }),
                ("Linear10PercentEvery2Minutes", Shift::Linear { percent: 10.0, minutes: 2.0 }),
                ("Linear10PercentEvery3Minutes", Shift::Linear { percent: 10.0, minutes: 3.0 }),
                ("Linear10PercentEvery10Minutes", Shift::Linear { percent: 10.0, minutes: 10.0 }),
            ],
            Self::Server => &[],
        }
    }
}

/// How production traffic shifts. Percentages are green's, intervals in CodeDeploy's minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shift {
    /// At once.
    AllAtOnce,
    /// One step, then the rest.
    Canary {
        /// First step.
        percent: f64,
        /// Time until the rest.
        minutes: f64,
    },
    /// Equal steps.
    Linear {
        /// Each step.
        percent: f64,
        /// Time between steps.
        minutes: f64,
    },
}

impl Shift {
    /// The predefined configuration of this name, and the platform that it is for.
    pub fn predefined(name: &str) -> Option<(Platform, Self)> {
        let name = name.strip_prefix("CodeDeployDefault.")?;
        [Platform::Ecs, Platform::Lambda].into_iter().find_map(|platform| {
            let rest = name.strip_prefix(platform.as_str())?;
            let (_, shift) = platform.predefined().iter().find(|(known, _)| *known == rest)?;
            Some((platform, *shift))
        })
    }

    /// Name of the configuration on a platform; custom ones are named after their steps.
    pub fn name(&self, platform: Platform) -> String {
        if let Some((known, _)) = platform.predefined().iter().find(|(_, shift)| shift == self) {
            return format!("CodeDeployDefault.{}{known}", platform.as_str());
        }
        match self {
            Self::AllAtOnce => "CodeDeployDefault.AllAtOnce".to_owned(),
            Self::Canary { percent, minutes } => format!("Canary{percent}Percent{minutes}Minutes"),
            Self::Linear { percent, minutes } => format!("Linear{percent}PercentEvery{minutes}Minutes"),
        }
    }

    /// Green's weight at each step, with the minutes until the next one. The first step is taken at once.
    pub fn steps(&self) -> Vec<(f64, f64)> {
        match *self {
            Self::AllAtOnce => vec![(100.0, 0.0)],
            Self::Canary { percent, minutes } => vec![(percent, minutes), (100.0, 0.0)],
            Self::Linear { percent, minutes } => {
                let count = (100.0 / percent).ceil() as usize;
                (1..=count)
                    .map(|step| {
                        let last = step == count;
                        ((percent * step as f64).min(100.0), if last { 0.0 } else { minutes })
                    })
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predefined_configurations_have_their_names_on_both_platforms() {
        let canary = |minutes| Shift::Canary { percent: 10.0, minutes };
        let linear = |minutes| Shift::Linear { percent: 10.0, minutes };
        for (platform, shift, name) in [
            (Platform::Lambda, canary(5.0), "CodeDeployDefault.LambdaCanary10Percent5Minutes"),
            (Platform::Lambda, canary(10.0), "CodeDeployDefault.LambdaCanary10Percent10Minutes"),
            (Platform::Lambda, canary(15.0), "CodeDeployDefault.LambdaCanary10Percent15Minutes"),
            (Platform::Lambda, canary(30.0), "CodeDeployDefault.LambdaCanary10Percent30Minutes"),
            (Platform::Lambda, linear(1.0), "CodeDeployDefault.LambdaLinear10PercentEvery1Minute"),
            (Platform::Lambda, linear(2.0), "CodeDeployDefault.LambdaLinear10PercentEvery2Minutes"),
            (Platform::Lambda, linear(3.0), "CodeDeployDefault.LambdaLinear10PercentEvery3Minutes"),
            (Platform::Lambda, linear(10.0), "CodeDeployDefault.LambdaLinear10PercentEvery10Minutes"),
            (Platform::Lambda, Shift::AllAtOnce, "CodeDeployDefault.LambdaAllAtOnce"),
            (Platform::Ecs, canary(5.0), "CodeDeployDefault.ECSCanary10Percent5Minutes"),
            (Platform::Ecs, linear(1.0), "CodeDeployDefault.ECSLinear10PercentEvery1Minutes"),
            (Platform::Ecs, Shift::AllAtOnce, "CodeDeployDefault.ECSAllAtOnce"),
        ] {
            assert_eq!(shift.name(platform), name);
            assert_eq!(Shift::predefined(name), Some((platform, shift)));
        }
    }

    #[test]
    fn other_configurations_are_custom() {
        let shift = Shift::Canary { percent: 10.0, minutes: 10.0 };
        assert_eq!(shift.name(Platform::Ecs), "Canary10Percent10Minutes");
        for name in ["LambdaLinear10PercentEvery1Minutes", "ECSLinear10PercentEvery1Minute", "OneAtATime"] {
            assert_eq!(Shift::predefined(&format!("CodeDeployDefault.{name}")), None);
        }
    }
}
