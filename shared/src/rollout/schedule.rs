//! How a rollout is to go on, from what is known before it begins.

use std::time::Duration;

/// A custom deployment configuration is taken to be a canary of 10 % for a quarter of an hour.
const UNKNOWN: Step = Step { share: 0.1, lasts: Duration::from_mins(15) };

/// CodeDeploy ends a deployment after five days, ECS a stage after one. Longer steps, and more of them, are names and numbers
/// that somebody made up.
const LONGEST: Duration = Duration::from_hours(5 * 24);
const LEAST_PERCENT: f64 = 1.0;

/// A part of a shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Green's share of the traffic, 0 to 1.
    pub share: f64,
    /// Time until the next step.
    pub lasts: Duration,
}

/// The steps below 100 % of a configuration of CodeDeploy, by its name.
pub fn of_configuration(name: &str) -> Vec<Step> {
    let name =
        name.trim_start_matches("CodeDeployDefault.").trim_start_matches("ECS").trim_start_matches("Lambda");
    let numbers: Vec<f64> = name
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let minutes = |minutes: &f64| Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(LONGEST);
    match numbers.as_slice() {
        [percent, lasts] if name.starts_with("Canary") => canary(*percent, minutes(lasts)),
        [percent, lasts] if name.starts_with("Linear") => linear(*percent, minutes(lasts)),
        _ if name == "AllAtOnce" => Vec::new(),
        _ => vec![UNKNOWN],
    }
}

/// One step before the rest. `percent` is green's; nothing sensible with more than there is.
pub fn canary(percent: f64, lasts: Duration) -> Vec<Step> {
    if !(0.0..=100.0).contains(&percent) {
        return vec![UNKNOWN];
    }
    vec![Step { share: percent / 100.0, lasts: lasts.min(LONGEST) }]
}

/// Equal steps of `percent` each; nothing sensible with less than 1 %, which neither controller takes.
pub fn linear(percent: f64, lasts: Duration) -> Vec<Step> {
    if !(LEAST_PERCENT..=100.0).contains(&percent) {
        return vec![UNKNOWN];
    }
    let steps = (100.0 / percent).ceil() as usize;
    let lasts = lasts.min(LONGEST / steps as u32);
    (1..steps).map(|step| Step { share: (percent / 100.0 * step as f64).min(1.0), lasts }).collect()
}

/// Green's share of the traffic (0 to 1) in each period of a shift, with the bake at the end.
pub fn green_shares(schedule: &[Step], period: Duration, bake: Duration) -> Vec<f64> {
    let periods = |lasts: Duration| (lasts.div_duration_f64(period).round() as usize).max(1);
    let all_of_it = Step { share: 1.0, lasts: bake };
    schedule
        .iter()
        .chain([&all_of_it])
        .flat_map(|step| std::iter::repeat_n(step.share, periods(step.lasts)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_by_their_names() {
        let minutes = |name: &str| {
            green_shares(&of_configuration(name), Duration::from_mins(1), Duration::from_mins(2))
        };
        assert_eq!(
            minutes("CodeDeployDefault.ECSCanary10Percent5Minutes"),
            [0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0]
        );
        let linear = minutes("CodeDeployDefault.ECSLinear10PercentEvery3Minutes");
        assert_eq!((linear.len(), linear[0], linear[26]), (9 * 3 + 2, 0.1, 0.9));
        assert_eq!(minutes("CodeDeployDefault.ECSAllAtOnce"), [1.0, 1.0]);
        assert_eq!(minutes("CodeDeployDefault.LambdaLinear10PercentEvery1Minute").len(), 9 + 2);
        assert_eq!(minutes("CodeDeployDefault.LambdaAllAtOnce"), [1.0, 1.0]);
        assert_eq!(minutes("our-own").len(), 17);
        assert_eq!(minutes("Linear0PercentEvery1Minutes").len(), 17);
    }

    #[test]
    fn no_name_and_no_number_makes_an_endless_schedule() {
        let five_days = 5 * 24 * 60;
        let periods =
            |steps: &[Step]| green_shares(steps, Duration::from_mins(1), Duration::from_mins(2)).len();
        let digits = "9".repeat(400);
        for name in ["Canary10Percent{}Minutes", "Linear10PercentEvery{}Minutes", "Canary{}Percent5Minutes"] {
            let steps = of_configuration(&name.replace("{}", &digits));
            assert!(periods(&steps) <= five_days + 2, "{name}");
            assert!(steps.iter().all(|step| (0.0..=1.0).contains(&step.share)), "{name}: {steps:?}");
        }
        assert_eq!(linear(1e-300, Duration::MAX), [UNKNOWN]);
        assert_eq!(linear(f64::NAN, Duration::ZERO), [UNKNOWN]);
        assert!(periods(&canary(f64::NAN, Duration::MAX)) <= five_days + 2);
    }
}
