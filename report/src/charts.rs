//! Charts as SVG. Their colours are told apart in light and in dark, and by people who do not see red beside green; the page's
//! style sheet sets the colour of text and axes.

use plotters::coord::Shift;
use plotters::prelude::*;
use shiftgate::recording::{Counts, Tally, Traffic};
use shiftgate::report::evidence::Comparison;

/// The old version.
const BLUE_VERSION: RGBColor = RGBColor(31, 119, 180);
/// The new version.
const GREEN_VERSION: RGBColor = RGBColor(26, 143, 76);
/// Limits.
const LIMIT: RGBColor = RGBColor(220, 50, 80);
/// Axes and grid: the style sheet replaces them.
const AXIS: RGBColor = RGBColor(128, 128, 128);
/// Width and height in pixels; the page scales them.
const SIZE: (u32, u32) = (640, 220);
/// No chance is drawn to be smaller.
const LEAST: f64 = 1e-12;

/// A line of a chart: its points by minute, with gaps where there is no data.
struct Line {
    colour: RGBColor,
    points: Vec<Option<f64>>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Which events of a recording are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// All requests.
    Requests,
    /// Answered with a status from 500 on.
    ServerErrors,
    /// Not answered.
    ConnectionErrors,
    /// Answered late.
    SlowRequests,
}

impl Counted {
    /// What is bad, in the order in which reports tell it.
    pub const BAD: [Self; 3] = [Self::ServerErrors, Self::ConnectionErrors, Self::SlowRequests];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::ServerErrors => "server errors",
            Self::ConnectionErrors => "connection errors",
            Self::SlowRequests => "slow requests",
        }
    }

    fn of(self, counts: &Counts) -> Option<f64> {
        let tally = match self {
            Self::Requests => counts.requests,
            Self::ServerErrors => counts.server_errors,
            Self::ConnectionErrors => counts.connection_errors,
            Self::SlowRequests => counts.slow_requests,
        };
        match tally {
            Tally::Of(number) => Some(number),
            // Where there are requests, a count that is not sent is none.
            Tally::Absent => matches!(counts.requests, Tally::Of(requests) if requests > 0.0).then_some(0.0),
            Tally::NoData => None,
        }
    }
}

/// What each version did per minute: blue, green.
pub fn per_minute(traffic: &Traffic, counted: Counted) -> [Vec<Option<f64>>; 2] {
    let of = |counts: &Option<Counts>| counts.as_ref().and_then(|counts| counted.of(counts));
    let blue = traffic.minutes.iter().map(|minute| of(&minute.blue)).collect();
    let green = traffic.minutes.iter().map(|minute| of(&minute.green)).collect();
    [blue, green]
}

/// Counts of both versions, minute by minute; `None` when there is nothing to draw.
pub fn counts(traffic: &Traffic, counted: Counted) -> Option<String> {
    let [blue, green] = per_minute(traffic, counted);
    let most = blue.iter().chain(&green).flatten().copied().fold(0.0, f64::max);
    let lines = [Line { colour: BLUE_VERSION, points: blue }, Line { colour: GREEN_VERSION, points: green }];
    if lines.iter().all(|line| line.points.iter().all(Option::is_none)) {
        return None;
    }
    draw(|area| linear(area, &lines, most.max(1.0) * 1.1))
}

/// How the evidence of a comparison grew against its limit: upwards is less likely by chance.
pub fn evidence(comparison: &Comparison) -> Option<String> {
    if comparison.chances.iter().all(Option::is_none) {
        return None;
    }
    let height = |chance: f64| -chance.max(LEAST).log10();
    let points: Vec<Option<f64>> = comparison.chances.iter().map(|chance| chance.map(height)).collect();
    let limit = height(comparison.limit);
    let most = points.iter().flatten().copied().fold(limit * 1.5, f64::max);
    draw(|area| logarithmic(area, &Line { colour: GREEN_VERSION, points }, limit, most * 1.05))
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// A chart that cannot be drawn is left out; the page has the numbers as well.
fn draw(paint: impl FnOnce(&Area<'_>) -> Drawn<'static>) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&area).ok()?;
        area.present().ok()?;
    }
    Some(svg)
}

fn linear(area: &Area<'_>, lines: &[Line], most: f64) -> Drawn<'static> {
    let minutes = lines.iter().map(|line| line.points.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(across(minutes), 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(minutes.min(12))
        .x_label_formatter(&|minute| format!("{minute:.0}"))
        .y_labels(5)
        .y_label_formatter(&|value| label(*value))
        .axis_style(AXIS)
        .bold_line_style(AXIS.mix(0.4))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 12))
        .draw()?;
    lines
        .iter()
        .try_for_each(|line| segments(line).try_for_each(|points| draw_line(&mut chart, points, line.colour)))
}

fn logarithmic(area: &Area<'_>, line: &Line, limit: f64, most: f64) -> Drawn<'static> {
    let minutes = line.points.len();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(24)
        .y_label_area_size(72)
        .build_cartesian_2d(across(minutes), 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(minutes.min(12))
        .x_label_formatter(&|minute| format!("{minute:.0}"))
        .y_labels(5)
        .y_label_formatter(&|power| one_in(*power))
        .axis_style(AXIS)
        .bold_line_style(AXIS.mix(0.4))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 12))
        .draw()?;
    let ends = across(minutes);
    chart.draw_series(DashedLineSeries::new(
        [(ends.start, limit), (ends.end, limit)],
        6,
        4,
        LIMIT.stroke_width(2),
    ))?;
    segments(line).try_for_each(|points| draw_line(&mut chart, points, line.colour))
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// A line with its points, so that one minute alone is seen as well.
fn draw_line(chart: &mut Chart<'_, '_>, points: Vec<(f64, f64)>, colour: RGBColor) -> Drawn<'static> {
    chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
    chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
    Ok(())
}

/// The stretches of a line without gaps.
fn segments(line: &Line) -> impl Iterator<Item = Vec<(f64, f64)>> {
    let numbered: Vec<Option<(f64, f64)>> = line
        .points
        .iter()
        .enumerate()
        .map(|(index, point)| point.map(|point| (index as f64 + 1.0, point)))
        .collect();
    let stretches: Vec<Vec<(f64, f64)>> =
        numbered.split(Option::is_none).map(|stretch| stretch.iter().flatten().copied().collect()).collect();
    stretches.into_iter().filter(|stretch| !stretch.is_empty())
}

/// From half a minute before the first to half a minute after the last.
fn across(minutes: usize) -> std::ops::Range<f64> {
    0.5..minutes.max(1) as f64 + 0.5
}

fn label(value: f64) -> String {
    if value >= 10_000.0 { format!("{:.0}k", value / 1000.0) } else { format!("{value:.0}") }
}

fn one_in(power: f64) -> String {
    let times = 10_f64.powf(power);
    match times {
        ..1e3 => format!("1 in {times:.0}"),
        1e3..1e6 => format!("1 in {:.0}k", times / 1e3),
        1e6..1e9 => format!("1 in {:.0}M", times / 1e6),
        _ => format!("1 in 1e{power:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_interrupted_where_there_is_no_data() {
        let line = Line { colour: LIMIT, points: vec![Some(1.0), None, Some(3.0), Some(4.0), None] };
        let found: Vec<Vec<(f64, f64)>> = segments(&line).collect();
        assert_eq!(found, [vec![(1.0, 1.0)], vec![(3.0, 3.0), (4.0, 4.0)]]);
    }

    #[test]
    fn what_nobody_counted_is_not_drawn() {
        let nothing = Comparison { name: "x".into(), limit: 0.01, chances: vec![None, None] };
        assert_eq!(evidence(&nothing), None);
        let something = Comparison { chances: vec![Some(0.5), Some(1e-300)], ..nothing };
        assert!(evidence(&something).unwrap().starts_with("<svg"));
    }
}
