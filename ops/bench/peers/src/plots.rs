//! The figures as pictures: SVG, without a font or a bitmap.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::comparison::{Comparison, Measure};
use crate::plan::Point;
use crate::report::{LatencyBucket, Report, Sample};
use crate::tables::number;

const SIZE: (u32, u32) = (860, 420);
/// Room on the right for the names of the lines, which must not cover them.
const NAMES_WIDTH: i32 = 190;
/// Colours that also those tell apart who see few of them; ours is the first.
const COLOURS: [RGBColor; 8] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(160, 160, 160),
    RGBColor(190, 190, 190),
];

/// One line of a picture.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    title: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// What a picture shows.
struct Picture {
    name: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    logarithmic_x: bool,
    logarithmic_y: bool,
    lines: Vec<Line>,
}

/// Draws everything that a run has figures for: file names and their SVG.
///
/// # Errors
/// If a picture cannot be drawn.
pub fn draw(report: &Report, ours: &str) -> Result<Vec<(String, String)>> {
    let over_writers = |measure: Measure, floors: bool| {
        lines(report, |name, is_system| {
            let points = Point::GROWING.iter().filter(|_| is_system || floors).filter_map(|point| {
                let writers = point.append()?.writers as f64;
                Some((writers, Comparison::of(report, *point, &measure, ours)?.figure(name)?.median?))
            });
            points.filter(|(_, figure)| *figure > 0.0).collect()
        })
    };
    let growing = |name, title, y, measure, floors| Picture {
        name,
        title,
        x: "writers",
        y,
        logarithmic_x: true,
        logarithmic_y: true,
        lines: over_writers(measure, floors),
    };
    let pictures = [
        growing("throughput", "Appends of 256 B", "events/s", Measure::EVENTS, true),
        growing("latency-p99", "Appends of 256 B, p99", "ms", Measure::P99, true),
        growing("cpu", "Servers' CPU for a thousand events", "s", Measure::SERVERS_PROCESSOR, false),
        Picture {
            name: "latency",
            title: "Appends of 256 B, 128 writers: how latencies are spread",
            x: "ms",
            y: "% of appends",
            logarithmic_x: true,
            logarithmic_y: false,
            lines: lines(report, |name, _| last(report, Point::Append128, name).map(spread).unwrap_or_default()),
        },
        Picture {
            name: "failover",
            title: "128 writers, the leader is killed at 0 s",
            x: "s",
            y: "acknowledged in 50 ms",
            logarithmic_x: false,
            logarithmic_y: false,
            lines: lines(report, |name, _| last(report, Point::Failover, name).map(time_line).unwrap_or_default()),
        },
    ];
    let drawn = pictures.into_iter().filter(|picture| !picture.lines.is_empty());
    drawn.map(|picture| Ok((format!("{}.svg", picture.name), picture.svg()?))).collect()
}

/// One line for each who has points.
fn lines(report: &Report, points: impl Fn(&str, bool) -> Vec<(f64, f64)>) -> Vec<Line> {
    let all = report.contenders.iter().enumerate().map(|(place, contender)| Line {
        title: contender.title.clone(),
        colour: COLOURS[place % COLOURS.len()],
        points: points(&contender.name, contender.is_system),
    });
    all.filter(|line| !line.points.is_empty()).collect()
}

/// The last round's sample: one real run, and not a mean of several.
fn last<'a>(report: &'a Report, point: Point, name: &str) -> Option<&'a Sample> {
    let reported = report.points.iter().find(|reported| reported.point == point)?;
    reported.contenders.iter().find(|samples| samples.name == name)?.rounds.iter().flatten().next_back()
}

/// Which share of the appends took about how long.
fn spread(sample: &Sample) -> Vec<(f64, f64)> {
    let Some(writes) = &sample.writes else { return Vec::new() };
    let all: u64 = writes.latency_buckets.iter().map(|bucket| bucket.count).sum();
    let share = |count: u64| count as f64 * 100.0 / all as f64;
    let mut shares: Vec<(f64, f64)> = Vec::new();
    for bucket in &writes.latency_buckets {
        let millis = bucket.to_micros / 1_000.0;
        let (before, after) = (millis / LatencyBucket::WIDTH, shares.last().map(|(last, _)| last * LatencyBucket::WIDTH));
        // Where nothing took so long the line is at zero.
        match after {
            Some(after) if after > before * 1.01 => {}
            Some(after) => shares.extend([(after, 0.0), (before, 0.0)]),
            None => shares.push((before, 0.0)),
        }
        shares.push((millis, share(bucket.count)));
    }
    shares.extend(shares.last().map(|(last, _)| (last * LatencyBucket::WIDTH, 0.0)));
    shares
}

/// Acknowledgements over the seconds around the kill.
fn time_line(sample: &Sample) -> Vec<(f64, f64)> {
    let Some(failover) = &sample.failover else { return Vec::new() };
    // The last bin is not full.
    let bins = failover.acknowledged.iter().enumerate().take(failover.acknowledged.len().saturating_sub(1));
    let at = |bin: usize| (bin as f64 * failover.bin_millis as f64 - failover.killed_at_millis) / 1_000.0;
    bins.map(|(bin, count)| (at(bin), *count as f64)).filter(|(seconds, _)| *seconds >= -1.0).collect()
}

impl Picture {
    fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let [x, y] = [self.range(|(x, _)| *x), self.range(|(_, y)| *y)];
            let from_zero = |(_, high): (f64, f64)| 0.0..(high * 1.05).max(1.0);
            let apart = |(low, high): (f64, f64)| (low / 1.3)..(high * 1.3);
            let drawn = match (self.logarithmic_x, self.logarithmic_y) {
                (true, true) => self.draw(&area, apart(x).log_scale(), apart(y).log_scale()),
                (true, false) => self.draw(&area, apart(x).log_scale(), from_zero(y)),
                _ => self.draw(&area, x.0..x.1.max(x.0 + 1.0), from_zero(y)),
            };
            drawn.map_err(|error| anyhow!("draw {}: {error}", self.name))?;
            area.present().map_err(|error| anyhow!("draw {}: {error}", self.name))?;
        }
        Ok(svg)
    }

    fn range(&self, of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let values = || self.lines.iter().flat_map(|line| &line.points).map(&of);
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    }

    fn draw<X, Y, B>(&self, area: &DrawingArea<B, Shift>, x: X, y: Y) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
    where
        B: DrawingBackend,
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .margin_right(NAMES_WIDTH + 14)
            .x_label_area_size(40)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        let axis = |value: &f64| axis(*value);
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&axis)
            .y_label_formatter(&axis)
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .draw()?;
        for (place, line) in (0..).zip(&self.lines) {
            let style = line.colour.stroke_width(2);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            let (x, y) = (SIZE.0 as i32 - NAMES_WIDTH, 48 + place * 20);
            area.draw(&PathElement::new([(x, y), (x + 16, y)], style))?;
            area.draw(&Text::new(line.title.as_str(), (x + 22, y - 6), ("sans-serif", 13)))?;
        }
        Ok(())
    }
}

/// A number at an axis: without digits that say nothing.
fn axis(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::report;

    #[test]
    fn every_picture_with_figures_is_drawn_with_a_line_for_each_who_has_some() {
        let drawn = draw(&report(), "cairn").expect("drawable");
        let names: Vec<_> = drawn.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["throughput.svg", "latency-p99.svg", "cpu.svg", "latency.svg", "failover.svg"]);
        for (name, svg) in &drawn {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            assert!(svg.contains("Cairn") && !svg.contains("Third"), "{name}");
            assert!(svg.len() < 40_000, "{name} has {} bytes", svg.len());
            assert_eq!(svg.contains("Other"), name != "failover.svg", "{name}");
        }
    }

    #[test]
    fn the_time_line_begins_a_second_before_the_kill_and_leaves_out_the_bin_that_is_not_full() {
        let report = report();
        let sample = last(&report, Point::Failover, "cairn").expect("it was killed");
        assert_eq!(time_line(sample), [(-0.05, 10.0), (0.0, 0.0), (0.05, 0.0)]);
    }

    #[test]
    fn shares_of_latencies_make_a_whole() {
        let report = report();
        let shares = spread(last(&report, Point::Append128, "cairn").expect("it appended"));
        let told: Vec<_> = shares.iter().copied().filter(|(_, share)| *share > 0.0).collect();
        assert_eq!(told, [(1.0, 90.0), (2.0, 10.0)]);
        let zeros: Vec<_> = shares.iter().map(|(_, share)| *share == 0.0).collect();
        assert_eq!(
            zeros,
            [true, false, true, true, false, true],
            "between two that are apart, and at both ends, there is nothing"
        );
        assert!(shares.is_sorted_by(|left, right| left.0 <= right.0 * 1.01), "{shares:?}");
    }

    #[test]
    fn an_axis_shows_no_idle_digits() {
        assert_eq!([axis(0.0), axis(10.0), axis(1_000.0), axis(0.5)], ["0", "10", "1,000", "0.5"]);
    }
}
