//! The rows of the benchmark as a chart.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::measure::{Judge, Row};
use super::peers::{PEERS, Peer};
use super::world::Mode;

/// Width of the chart, and height of its upper part and of a line of the lower, in pixels.
const SIZE: (u32, u32, u32) = (1200, 460, 18);
/// Room above and below the lines of the lower part.
const MARGIN: u32 = 130;
/// Where the lower part ends, in percent: beyond 100 is the legend.
const LEGEND: f64 = 118.0;
/// What is ours.
const OURS: RGBColor = RGBColor(0, 100, 200);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Draws, as SVG: above, what each rule costs (good releases rolled back) and what is left of the harm (bad requests
/// served of those that green would have served), all cells together; below, the harm in each regression.
pub fn chart(rows: &[Row]) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let bad: Vec<&Row> = rows
        .iter()
        .filter(|row| row.mode == Mode::Zones && !row.cell.is_good() && row.unwatched > 0.0)
        .collect();
    let mut svg = String::new();
    {
        let (width, upper, line) = SIZE;
        let height = upper + MARGIN + line * bad.len() as u32;
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(upper);
        draw_costs(&above, rows, &bad)?;
        draw_harm(&below, &bad)?;
        area.present()?;
    }
    Ok(svg)
}

/// The share of the bad requests that green serves under a judge (`None` is ours), in percent.
fn harm(row: &Row, judge: Option<Judge>) -> f64 {
    let served = match judge {
        None => row.ours.served,
        Some(judge) => row.beside(judge).map_or(row.unwatched, |beside| beside.tally.served),
    };
    100.0 * served / row.unwatched
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (number, total) = values.fold((0.0, 0.0), |(number, total), value| (number + 1.0, total + value));
    if number > 0.0 { total / number } else { 0.0 }
}

fn draw_costs(area: &Area, rows: &[Row], bad: &[&Row]) -> Drawn {
    let good = || {
        rows.iter()
            .filter(|row| row.mode == Mode::Zones && row.cell.is_good() && row.cell.setting.noise.promised())
    };
    let mut dots: Vec<(String, f64, f64, RGBColor)> = vec![(
        "Shiftgate".to_owned(),
        mean(good().map(|row| row.ours.percent())),
        mean(bad.iter().map(|row| harm(row, None))),
        OURS,
    )];
    dots.extend(PEERS.map(Judge::Peer).map(|judge| {
        let costs = good().filter_map(|row| row.beside(judge)).map(|beside| beside.tally.percent());
        (judge.to_string(), mean(costs), mean(bad.iter().map(|row| harm(row, Some(judge)))), BLACK)
    }));
    let most = dots.iter().map(|dot| dot.1).fold(5.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption("What a rule costs, and what harm is left (mean of all cells)", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(45)
        .y_label_area_size(60)
        .build_cartesian_2d(-0.5..most, 0.0..105.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("good releases rolled back, %")
        .y_desc("bad requests served, % of green's in the window")
        .draw()?;
    chart.draw_series(dots.iter().map(|(name, x, y, colour)| {
        EmptyElement::at((*x, *y))
            + Circle::new((0, 0), 5, colour.filled())
            + Text::new(name.clone(), (9, -6), ("sans-serif", 14).into_font().color(colour))
    }))?;
    Ok(())
}

fn draw_harm(area: &Area, bad: &[&Row]) -> Drawn {
    let judges: [(Option<Judge>, RGBColor); 6] = [
        (Some(Judge::Peer(Peer::Alarm { breaching: 3, of: 5 })), RGBColor(200, 170, 60)),
        (Some(Judge::Peer(Peer::Kayenta)), RGBColor(190, 120, 200)),
        (Some(Judge::Peer(Peer::PipeCd)), RGBColor(90, 170, 90)),
        (Some(Judge::Peer(Peer::Flagger { threshold: 5 })), RGBColor(220, 90, 60)),
        (Some(Judge::Concurrent), RGBColor(150, 150, 150)),
        (None, OURS),
    ];
    let lines = bad.len();
    let mut chart = ChartBuilder::on(area)
        .caption("Bad requests served, % of green's in the window", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..LEGEND, (0..lines).into_segmented())?;
    // The first row is on top; the axis also asks for lines beyond the last.
    let from_below: Vec<&str> = bad.iter().rev().map(|row| row.name.as_str()).collect();
    let name = |line: &SegmentValue<usize>| match line {
        SegmentValue::CenterOf(line) => from_below.get(*line).copied().unwrap_or_default().to_owned(),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    let percent = |share: &f64| if *share > 100.0 { String::new() } else { format!("{share}") };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_label_formatter(&percent)
        .y_labels(lines)
        .y_label_formatter(&name)
        .draw()?;
    for (judge, colour) in judges {
        let size = if judge.is_none() { 6 } else { 4 };
        let dots = bad.iter().rev().enumerate().map(|(line, row)| {
            Circle::new((harm(row, judge), SegmentValue::CenterOf(line)), size, colour.filled())
        });
        chart
            .draw_series(dots)?
            .label(judge.map_or("Shiftgate".to_owned(), |judge| judge.to_string()))
            .legend(move |(x, y)| Circle::new((x + 8, y), size, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::cells::cells;
    use super::super::measure::measure;
    use super::*;

    #[test]
    fn the_chart_shows_every_regression_and_every_rule() {
        let cells = cells(Some("1200/min canary 0.08 % shared x12"));
        let svg = chart(&measure(&cells, 3, |_| {})).unwrap();
        let holds = |text: &str| assert!(svg.contains(text), "no {text}");
        holds("1200/min canary 0.08 % shared x12");
        holds("Shiftgate");
        Judge::all().skip(2).for_each(|judge| holds(&judge.to_string()));
        assert!(!svg.contains("NaN"));
    }
}
