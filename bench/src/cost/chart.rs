//! How the cost of a rollout grows with its bake and its shift.

use std::io;

use plotters::prelude::*;

use super::counts::Counts;
use super::rollouts::CANARY;
use super::tables::of_a_minute;
use super::{Assumptions, of_rollout};

/// Width and height, in pixels.
const SIZE: (u32, u32) = (900, 480);
/// Minutes of shift, a line for each.
const SHIFTS: [f64; 3] = [5.0, 15.0, 60.0];
/// The longest bake that a policy may ask for, in minutes.
const LONGEST_BAKE: u32 = 50;
/// From so many minutes on, a bake is handed over to the state machine: with two minutes for the data and 45 s for the last look it
/// is longer than an invocation of 15 minutes with its reserve (`shiftgate::carry::through`).
pub const HANDED_OVER_FROM: u32 = 12;

/// Cents of a canary by CodeDeploy. A bake that is handed over costs what as many minutes of shift cost: the same function looks as
/// often, and reads as much.
fn cost(counts: &Counts, shift: f64, bake: u32) -> f64 {
    let assumed = Assumptions::default();
    let [of_shift, of_bake] = of_a_minute(counts, &assumed);
    let rest = of_rollout(&counts.of(CANARY), &assumed).total().0 - 15.0 * of_shift.0 - 5.0 * of_bake.0;
    let of_bake = if bake < HANDED_OVER_FROM { of_bake } else { of_shift };
    100.0 * (rest + shift * of_shift.0 + f64::from(bake) * of_bake.0)
}

/// Draws it, as SVG.
pub fn chart(counts: &Counts) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let most =
            cost(counts, SHIFTS[2], LONGEST_BAKE).max(cost(counts, SHIFTS[2], HANDED_OVER_FROM - 1)) * 1.1;
        let mut chart = ChartBuilder::on(&area)
            .caption("A canary by CodeDeploy, three zones, without custom metrics", ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(45)
            .y_label_area_size(60)
            .build_cartesian_2d(0..LONGEST_BAKE, 0.0..most)?;
        chart.configure_mesh().x_desc("minutes of bake").y_desc("cents a rollout").draw()?;
        for (index, shift) in SHIFTS.into_iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let points = (0..=LONGEST_BAKE).map(|bake| (bake, cost(counts, shift, bake)));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(format!("{shift} minutes of shift"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bake_is_handed_over_when_an_invocation_cannot_see_its_end() {
        // An invocation of 900 s without its reserve of 20 s; two minutes for the data, and 45 s for the last look.
        let fits = |bake: u32| (bake + 2) * 60 + 45 <= 900 - 20;
        assert!(fits(HANDED_OVER_FROM - 1) && !fits(HANDED_OVER_FROM));
    }
}
