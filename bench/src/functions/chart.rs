//! The results as a chart.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::results::{Results, Run, Subject};

/// Width and height of each part, in pixels.
const SIZE: (u32, u32) = (620, 300);
/// Where calls take as long as the chart shows, ms.
const COLD_AT: u64 = 0;
const WARM_AT: u64 = 5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// What a part of the chart shows: its title, the time of a call in ms, and the figure.
type Part = (&'static str, u64, fn(&Run) -> Option<f64>);

const PARTS: [Part; 3] = [
    ("Cold invocation, ms (calls that take no time)", COLD_AT, |run| Some(run.cold_ms)),
    ("Warm invocation, ms (calls of 5 ms)", WARM_AT, |run| Some(run.warm_ms)),
    ("Peak memory, MB", COLD_AT, |run| Some(run.peak_kb? as f64 / 1024.0)),
];

/// Draws, as SVG: cold and warm invocations and memory, a column for each function and a bar for each subject; the line over a
/// bar's end goes from the lower quarter to the upper.
pub fn chart(results: &Results) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let functions = results.functions();
    let (columns, rows) = (functions.len().max(1), PARTS.len());
    let mut svg = String::new();
    {
        let size = (SIZE.0 * columns as u32, SIZE.1 * rows as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let parts = area.split_evenly((rows, columns));
        for (part, area) in parts.iter().enumerate() {
            if let Some(function) = functions.get(part % columns) {
                draw(area, results, function, PARTS[part / columns])?;
            }
        }
        area.present()?;
    }
    Ok(svg)
}

fn colour(subject: Subject) -> RGBColor {
    match subject {
        Subject::Ours => RGBColor(0, 100, 200),
        Subject::Floor => RGBColor(150, 150, 150),
        Subject::Node => RGBColor(90, 170, 90),
        Subject::Python => RGBColor(200, 170, 60),
    }
}

fn draw(area: &Area, results: &Results, function: &str, (title, latency_ms, figure): Part) -> Drawn {
    let bars: Vec<_> = Subject::ALL
        .into_iter()
        .filter_map(|subject| Some((subject, results.cell(function, subject, latency_ms)?.spread(figure)?)))
        .collect();
    let most = bars.iter().map(|(_, spread)| spread.upper).fold(0.1, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{function}: {title}"), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..most, (0..bars.len().max(1)).into_segmented())?;
    // The first is on top; the axis also asks for bars beyond the last.
    let from_below: Vec<_> = bars.iter().rev().collect();
    let name = |line: &SegmentValue<usize>| match line {
        SegmentValue::CenterOf(line) => {
            from_below.get(*line).map(|(subject, _)| subject.to_string()).unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE.mix(0.0))
        .x_labels(6)
        .label_style(("sans-serif", 16))
        .y_labels(bars.len().max(1))
        .y_label_formatter(&name)
        .draw()?;
    for (line, (subject, spread)) in from_below.iter().enumerate() {
        let middle = SegmentValue::CenterOf(line);
        let mut bar = Rectangle::new(
            [(0.0, SegmentValue::Exact(line)), (spread.median, SegmentValue::Exact(line + 1))],
            colour(*subject).filled(),
        );
        bar.set_margin(8, 8, 0, 0);
        chart.draw_series(std::iter::once(bar))?;
        chart.draw_series(std::iter::once(PathElement::new(
            [(spread.lower, middle.clone()), (spread.upper, middle.clone())],
            BLACK.stroke_width(2),
        )))?;
        chart.draw_series(std::iter::once(
            EmptyElement::at((spread.upper, middle))
                + Text::new(format!("{:.1}", spread.median), (6, -7), ("sans-serif", 18)),
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::results::Cell;
    use super::*;

    #[test]
    fn the_chart_shows_every_subject_and_its_median() {
        let cell = |(number, subject): (usize, Subject)| {
            let run = Run {
                init_ms: 5.0,
                cold_ms: 10.5 + number as f64,
                warm_ms: 2.0,
                cpu_ms: None,
                peak_kb: Some(20 * 1024),
            };
            Cell {
                function: "before-allow-traffic".to_owned(),
                subject,
                latency_ms: COLD_AT,
                runs: vec![run; 2],
            }
        };
        let cells = Subject::ALL.into_iter().enumerate().map(cell).collect();
        let svg = chart(&Results { cells, ..Results::default() }).unwrap();
        let holds = |text: &str| assert!(svg.contains(text), "no {text}");
        holds("before-allow-traffic: Cold invocation");
        for (subject, median) in Subject::ALL.into_iter().zip(["10.5", "11.5", "12.5", "13.5"]) {
            holds(&subject.to_string());
            holds(median);
        }
        assert!(!svg.contains("NaN"));
    }
}
