//! Charts as SVG. Their colours are told apart in light and in dark, and by people who do not see red beside green; the page's
//! style sheet sets the colour of text and axes.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use shiftgate::recording::{Bad, Counts, Tally, Traffic};
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
const SIZE: (u32, u32) = (480, 190);
/// Periods of blue alone that are drawn before the shift.
const BEFORE: usize = 15;
/// Height of a label in pixels.
const LABEL: u32 = 14;
/// No chance is drawn to be smaller.
const LEAST: f64 = 1e-12;

/// A line of a chart: values by the number of their minute, with gaps where there is no data. Minute 1 is the first since the
/// shift began; what is not above 0 was before.
struct Line {
    colour: RGBColor,
    points: Vec<(i32, Option<f64>)>,
}

impl Line {
    /// Values of the minutes since the shift began.
    fn since_the_shift(colour: RGBColor, values: &[Option<f64>]) -> Self {
        Self { colour, points: (1..).zip(values.iter().copied()).collect() }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().filter_map(|(_, value)| *value)
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How many requests, or bad ones of a kind, there were in a period.
fn count(counts: &Counts, bad: Option<Bad>) -> Option<f64> {
    match (bad, counts.requests) {
        (Some(bad), _) => Some(bad.count(counts)?.bad),
        (None, Tally::Of(requests)) => Some(requests),
        (None, _) => None,
    }
}

/// What each version did per minute since the shift began: blue, green.
pub fn per_minute(traffic: &Traffic, bad: Option<Bad>) -> [Vec<Option<f64>>; 2] {
    let of = |counts: &Option<Counts>| counts.as_ref().and_then(|counts| count(counts, bad));
    let blue = traffic.minutes.iter().map(|minute| of(&minute.blue)).collect();
    let green = traffic.minutes.iter().map(|minute| of(&minute.green)).collect();
    [blue, green]
}

/// Counts of both versions, minute by minute, and of blue in the minutes before the shift; `None` when there is nothing to
/// draw.
pub fn counts(traffic: &Traffic, bad: Option<Bad>) -> Option<String> {
    let [blue, green] = per_minute(traffic, bad);
    let past = traffic.history.iter().rev().take(BEFORE).map(|before| count(&before.total(), bad));
    let mut of_blue: Vec<(i32, Option<f64>)> = (0..).map(|back: i32| -back).zip(past).collect();
    of_blue.reverse();
    of_blue.extend(Line::since_the_shift(BLUE_VERSION, &blue).points);
    let lines =
        [Line { colour: BLUE_VERSION, points: of_blue }, Line::since_the_shift(GREEN_VERSION, &green)];
    let top = lines.iter().flat_map(Line::values).reduce(f64::max)?.max(1.0) * 1.1;
    draw(|area| {
        let mut chart = frame(area, &lines, top, &|value| label(*value))?;
        // Where the shift began.
        chart.draw_series([PathElement::new(vec![(0.5, 0.0), (0.5, top)], AXIS)])?;
        lines.iter().try_for_each(|line| draw_line(&mut chart, line))
    })
}

/// How the evidence of a comparison grew against its limit: upwards is less likely by chance.
pub fn evidence(comparison: &Comparison) -> Option<String> {
    let height = |chance: f64| -chance.max(LEAST).log10();
    let heights: Vec<Option<f64>> = comparison.chances.iter().map(|chance| chance.map(height)).collect();
    let line = Line::since_the_shift(GREEN_VERSION, &heights);
    let limit = height(comparison.limit);
    let most = line.values().reduce(f64::max)?.max(limit * 1.5) * 1.05;
    draw(|area| {
        let mut chart = frame(area, std::slice::from_ref(&line), most, &|power| one_in(*power))?;
        let (from, to) = across(std::slice::from_ref(&line));
        chart.draw_series(DashedLineSeries::new(
            [(from, limit), (to, limit)],
            6,
            4,
            LIMIT.stroke_width(2),
        ))?;
        draw_line(&mut chart, &line)
    })
}

type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A chart that cannot be drawn is left out; the page has the numbers as well.
fn draw(paint: impl FnOnce(&Area<'_>) -> Result<(), Failure<'static>>) -> Option<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        paint(&area).ok()?;
        area.present().ok()?;
    }
    Some(svg)
}

/// Axes: minutes across, and upwards to `most`.
fn frame<'a, 'b>(
    area: &'a Area<'b>,
    lines: &[Line],
    most: f64,
    label: &dyn Fn(&f64) -> String,
) -> Result<Chart<'a, 'b>, Failure<'static>> {
    let (from, to) = across(lines);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(24)
        .y_label_area_size(76)
        .build_cartesian_2d(from..to, 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(((to - from) as usize).clamp(1, 8))
        .x_label_formatter(&|minute| format!("{minute:.0}"))
        .y_labels(4)
        .y_label_formatter(label)
        .axis_style(AXIS)
        .bold_line_style(AXIS.mix(0.4))
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", LABEL))
        .draw()?;
    Ok(chart)
}

/// A line with its points, so that one minute alone is seen as well.
fn draw_line(chart: &mut Chart<'_, '_>, line: &Line) -> Result<(), Failure<'static>> {
    for points in stretches(line) {
        chart.draw_series(LineSeries::new(points.iter().copied(), line.colour.stroke_width(2)))?;
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, line.colour.filled())))?;
    }
    Ok(())
}

/// The stretches of a line without gaps.
fn stretches(line: &Line) -> Vec<Vec<(f64, f64)>> {
    let known: Vec<Option<(f64, f64)>> =
        line.points.iter().map(|(minute, value)| Some((f64::from(*minute), (*value)?))).collect();
    let between_gaps =
        known.split(Option::is_none).map(|stretch| stretch.iter().flatten().copied().collect());
    between_gaps.filter(|stretch: &Vec<_>| !stretch.is_empty()).collect()
}

/// From half a minute before the first to half a minute after the last.
fn across(lines: &[Line]) -> (f64, f64) {
    let minutes = || lines.iter().flat_map(|line| line.points.iter().map(|(minute, _)| *minute));
    let [first, last] = [minutes().min().unwrap_or(1), minutes().max().unwrap_or(1)].map(f64::from);
    (first - 0.5, last + 0.5)
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
        let line = Line::since_the_shift(LIMIT, &[Some(1.0), None, Some(3.0), Some(4.0), None]);
        assert_eq!(stretches(&line), [vec![(1.0, 1.0)], vec![(3.0, 3.0), (4.0, 4.0)]]);
    }

    #[test]
    fn what_nobody_counted_is_not_drawn() {
        let nothing = Comparison { name: "x".into(), limit: 0.01, chances: vec![None, None] };
        assert_eq!(evidence(&nothing), None);
        let something = Comparison { chances: vec![Some(0.5), Some(1e-300)], ..nothing };
        assert!(evidence(&something).unwrap().starts_with("<svg"));
    }
}
