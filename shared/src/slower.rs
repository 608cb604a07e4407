//! The fall-back for slow requests where CloudWatch does not count them: reads a percentile of both colours per period.

use crate::fault::Fault;
use crate::hook::Release;
use crate::judge::{self, quantile};
use crate::metrics::{self, Side, Window};
use crate::policy::gates::Metric;
use crate::verdict::Finding;

/// Compares the highest percentile of `metric` that green's traffic bears. `window` is the time since the shift began.
pub async fn look(
    release: &Release,
    gate: &str,
    metric: &Metric,
    window: &Window,
    chance: f64,
) -> Result<Finding, Fault> {
    let query = |side, statistic: &str| metrics::query(metric, statistic, &release.rollout, side);
    let samples = query(Side::Green, "SampleCount");
    let counted = metrics::read(&release.aws, std::slice::from_ref(&samples), window).await?;
    let counts = counted.get(&samples, window);
    let usual = judge::median(counts.iter().flatten().copied()).unwrap_or(0.0);
    let Some(percentile) = quantile::highest_percentile(usual) else {
        return Ok(quantile::slower(gate, &metric.name, 50.0, &[], chance));
    };
    let [blue, green] = [Side::Blue, Side::Green].map(|side| query(side, &format!("p{percentile}")));
    let set = metrics::read(&release.aws, &[blue.clone(), green.clone()], window).await?;
    let sides = set.get(&blue, window).into_iter().zip(set.get(&green, window)).zip(counts);
    // A quantile of a few samples says nothing.
    let enough =
        |samples: f64| quantile::highest_percentile(samples).is_some_and(|highest| highest >= percentile);
    let pairs: Vec<quantile::Pair> = sides
        .filter(|(_, samples)| samples.is_some_and(enough))
        .filter_map(|((blue, green), _)| blue.zip(green))
        .collect();
    Ok(quantile::slower(gate, &metric.name, percentile, &pairs, chance))
}
