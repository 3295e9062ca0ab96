//! Line plots as inline SVG, coloured by the page's style sheet.

use super::html::escape;
use super::{Curve, Series};
use crate::evaluate::words::number;
use std::fmt::Write;

/// The drawing's size in its own units, about one CSS pixel each.
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 236.0;
/// The plot's edges within the drawing.
const LEFT: f64 = 44.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = HEIGHT - 40.0;
/// More points than this become means of neighbours.
const MOST_POINTS: usize = 220;
/// Series with fewer points than this show each as a dot.
const MOST_DOTS: usize = 40;

/// A plot with its title and legend; a sentence instead when no point can be drawn.
pub(super) fn figure(curve: &Curve) -> String {
    let mut out = format!("<figure class=\"plot\">\n<h3>{}</h3>\n", escape(&curve.title));
    let series: Vec<Series> =
        curve.series.iter().map(|series| drawable(series, curve.log)).collect();
    let points = || series.iter().flat_map(|series| &series.points);
    match (range(points().map(|point| point.0)), range(points().map(|point| point.1))) {
        (Some(x), Some(y)) => {
            let (x, y) =
                (Axis::spanning(x), if curve.log { Axis::log(y) } else { Axis::linear(y) });
            out += &svg(curve, &series, &x, &y);
            out += &legend(&series);
        }
        _ => out += "<p class=\"muted\">No points to draw.</p>\n",
    }
    out + "</figure>\n"
}

/// True when a series of the plot is drawn as means of neighbouring points.
pub(super) fn is_thinned(curve: &Curve) -> bool {
    curve.series.iter().any(|series| series.points.len() > MOST_POINTS)
}

fn svg(curve: &Curve, series: &[Series], x_axis: &Axis, y_axis: &Axis) -> String {
    let x = |value: f64| LEFT + x_axis.place(value) * (RIGHT - LEFT);
    let y = |value: f64| BOTTOM - y_axis.place(value) * (BOTTOM - TOP);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(&description(curve, series))
    );
    for &tick in &y_axis.ticks {
        let (at, label) = (y(tick), compact(tick));
        _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 7.0,
            at + 4.0
        );
    }
    for &tick in &x_axis.ticks {
        let (at, label) = (x(tick), compact(tick));
        _ = writeln!(
            out,
            "<line class=\"tick\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            BOTTOM + 4.0,
            BOTTOM + 17.0
        );
    }
    _ = writeln!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\n\
         <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text class=\"label\" x=\"2\" y=\"11\">{}{}</text>",
        (LEFT + RIGHT) / 2.0,
        HEIGHT - 5.0,
        escape(&curve.x_label),
        escape(&curve.y_label),
        if curve.log { " (log scale)" } else { "" }
    );
    for (index, series) in series.iter().enumerate() {
        let (class, mut path) = (class(index), String::new());
        for (at, &(px, py)) in series.points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            _ = write!(path, "{command}{:.1} {:.1}", x(px), y(py));
        }
        _ = writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
        if series.points.len() <= MOST_DOTS {
            for &(px, py) in &series.points {
                _ = write!(
                    out,
                    "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"/>",
                    x(px),
                    y(py)
                );
            }
            out.push('\n');
        }
    }
    out + "</svg>\n"
}

/// Each series with its mark and its last value.
fn legend(series: &[Series]) -> String {
    let mut out = String::from("<ul class=\"legend\">\n");
    for (index, series) in series.iter().enumerate() {
        let class = class(index);
        let last = series.points.last().map_or("no points".to_owned(), |&(_, y)| number(y));
        let dot = if series.points.len() <= MOST_DOTS {
            format!("<circle class=\"dot {class}\" cx=\"11\" cy=\"6\" r=\"2.6\"/>")
        } else {
            String::new()
        };
        _ = writeln!(
            out,
            "<li><svg viewBox=\"0 0 22 12\" width=\"22\" height=\"12\" aria-hidden=\"true\">\
             <path class=\"line {class}\" d=\"M1 6H21\"/>{dot}</svg> {} <span class=\"muted\">ends at \
             {last}</span></li>",
            escape(&series.name)
        );
    }
    out + "</ul>\n"
}

/// What the plot shows, for who cannot see it.
fn description(curve: &Curve, series: &[Series]) -> String {
    let mut out = format!("{}: {} over {}.", curve.title, curve.y_label, curve.x_label);
    for series in series {
        if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
            _ = write!(out, " {}: from {} to {}.", series.name, number(first.1), number(last.1));
        }
    }
    out
}

fn class(index: usize) -> &'static str {
    ["s0", "s1", "s2", "s3"][index % 4]
}

/// The points that the axes can show, neighbours averaged where there are too many to tell apart.
fn drawable(series: &Series, log: bool) -> Series {
    let is_drawable = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!log || y > 0.0);
    let points: Vec<_> = series.points.iter().copied().filter(is_drawable).collect();
    let per_bucket = points.len().div_ceil(MOST_POINTS).max(1);
    let mean = |bucket: &[(f64, f64)]| {
        let count = bucket.len() as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| bucket.iter().map(of).sum::<f64>() / count;
        (sum(|point| point.0), sum(|point| point.1))
    };
    Series { name: series.name.clone(), points: points.chunks(per_bucket).map(mean).collect() }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From the first value to the last, or a little further to 0 or a round value; ticks between.
    fn spanning((low, high): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let low = if low >= 0.0 && low < 0.1 * high { 0.0 } else { low };
        let step = nice_step((high - low) / 5.0);
        let next = (high / step - 1e-9).ceil() * step;
        let high = if next - high < 0.04 * (high - low) { next } else { high };
        let ticks = multiples(step, (low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        Self { low, high, log: false, ticks }
    }

    /// From a round value to a round value; from 0 where that costs little.
    fn linear((low, high): (f64, f64)) -> Self {
        let low = if low >= 0.0 && low < 0.4 * high { 0.0 } else { low };
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let step = nice_step(span / 4.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = multiples(step, first, last.max(first + 1.0));
        Self { low: ticks[0], high: ticks[ticks.len() - 1], log: false, ticks }
    }

    /// From 1, 2 or 5 times a power of ten to another; both values above 0.
    fn log((low, high): (f64, f64)) -> Self {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let round: Vec<f64> = (first..=last)
            .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
            .collect();
        let below = round.iter().rposition(|&tick| tick <= low * (1.0 + 1e-9)).unwrap_or(0);
        let above = round.iter().position(|&tick| tick >= high * (1.0 - 1e-9));
        let above = above.unwrap_or(round.len() - 1).max(below + 1).min(round.len() - 1);
        let inside = &round[below..=above];
        let ticks = if inside.len() <= 7 {
            inside.to_vec()
        } else {
            let every = (last - first) as usize / 7 + 1;
            let decades = (first..=last).step_by(every).map(|power| 10f64.powi(power));
            decades.filter(|tick| inside.contains(tick)).collect()
        };
        Self { low: round[below], high: round[above], log: true, ticks }
    }

    /// Where a value lies, from 0 (low) to 1 (high).
    fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// The least of 1, 2 or 5 times a power of ten that is at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= least * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * power
}

fn multiples(step: f64, first: f64, last: f64) -> Vec<f64> {
    let count = (last - first).max(0.0) as usize;
    (0..=count).map(|at| (first + at as f64) * step).collect()
}

/// A tick's label, short: `0.5`, `20k`, `3M`, `5e-4`.
fn compact(value: f64) -> String {
    let size = value.abs();
    let (scaled, suffix) = match size {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    if size > 0.0 && size < 1e-3 {
        // Through a rounded number, so that 3 · 1e-4 is not 3.0000000000000004e-4.
        let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
        return format!("{rounded:e}");
    }
    let digits = format!("{scaled:.4}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{}{suffix}", if digits == "-0" { "0" } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| compact(tick)).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Axis::spanning((0.0, 5000.0))),
            ["0", "1000", "2000", "3000", "4000", "5000"]
        );
        assert_eq!(labels(&Axis::spanning((0.0, 6.4e7))), ["0", "20M", "40M", "60M"]);
        assert_eq!(labels(&Axis::linear((4.1, 6.2))), ["4", "5", "6", "7"]);
        assert_eq!(labels(&Axis::linear((0.0, 5e-4))), ["0", "2e-4", "4e-4", "6e-4"]);
        assert_eq!(labels(&Axis::linear((0.1, 0.9))), ["0", "0.5", "1"]);
        assert_eq!(labels(&Axis::log((0.021, 0.31))), ["0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(labels(&Axis::log((3e-6, 0.4))), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]);
    }

    #[test]
    fn values_lie_within_their_axis() {
        for (low, high) in
            [(0.0, 0.0), (3.0, 3.0), (-2.0, 5.0), (1e-9, 1e9), (0.3, 0.31), (-5.0, -5.0)]
        {
            let mut axes = vec![Axis::linear((low, high)), Axis::spanning((low, high))];
            if low > 0.0 {
                axes.push(Axis::log((low, high)));
            }
            for axis in axes {
                let (first, last) = (axis.place(low), axis.place(high));
                assert!((-1e-6..=1.0 + 1e-6).contains(&first), "{low} {high}: {first}");
                assert!((-1e-6..=1.0 + 1e-6).contains(&last), "{low} {high}: {last}");
                assert!(!axis.ticks.is_empty() && axis.ticks.len() < 12, "{:?}", axis.ticks);
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.0), (3.0, 0.5)];
        let series = Series { name: "a & b".into(), points };
        assert_eq!(drawable(&series, true).points, [(0.0, 1.0), (3.0, 0.5)]);
        assert_eq!(drawable(&series, false).points.len(), 3);
        let long = Series { name: String::new(), points: vec![(1.0, 2.0); 1000] };
        assert_eq!(drawable(&long, true).points, [(1.0, 2.0); 200]);
        let curve = Curve { series: vec![series], log: true, ..Curve::default() };
        let drawn = figure(&curve);
        assert!(drawn.contains("a &amp; b") && !drawn.contains("NaN") && !drawn.contains("inf"));
        assert!(figure(&Curve::default()).contains("No points to draw."));
    }
}
