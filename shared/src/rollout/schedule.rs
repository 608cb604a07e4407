//! How long a rollout takes and how much of the traffic green has on the way, from what is known before it begins.

use std::time::Duration;

/// A custom deployment configuration is taken to be a canary of 10 % for a quarter of an hour.
const UNKNOWN: (f64, usize) = (0.1, 15);

/// Green's share of the traffic (0 to 1) in each period, by the name of a configuration of CodeDeploy, with the bake at the end.
pub fn green_shares(configuration: &str, period: Duration, bake: Duration) -> Vec<f64> {
    let periods = |minutes: f64| ((minutes * 60.0 / period.as_secs_f64()).round() as usize).max(1);
    let name = configuration.trim_start_matches("CodeDeployDefault.ECS");
    let numbers: Vec<f64> = name
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    let mut shares = match numbers.as_slice() {
        [percent, minutes] if name.starts_with("Canary") => vec![percent / 100.0; periods(*minutes)],
        [percent, minutes] if name.starts_with("Linear") && *percent > 0.0 => {
            let steps = (100.0 / percent).ceil() as usize;
            let step = |step: usize| vec![(percent / 100.0 * step as f64).min(1.0); periods(*minutes)];
            (1..steps).flat_map(step).collect()
        }
        _ if name == "AllAtOnce" => Vec::new(),
        _ => vec![UNKNOWN.0; UNKNOWN.1],
    };
    shares.extend(vec![1.0; periods(bake.as_secs_f64() / 60.0)]);
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_by_their_names() {
        let minutes = |name: &str| green_shares(name, Duration::from_mins(1), Duration::from_mins(2));
        assert_eq!(
            minutes("CodeDeployDefault.ECSCanary10Percent5Minutes"),
            [0.1, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0]
        );
        let linear = minutes("CodeDeployDefault.ECSLinear10PercentEvery3Minutes");
        assert_eq!((linear.len(), linear[0], linear[26]), (9 * 3 + 2, 0.1, 0.9));
        assert_eq!(minutes("CodeDeployDefault.ECSAllAtOnce"), [1.0, 1.0]);
        assert_eq!(minutes("our-own").len(), 17);
    }
}
