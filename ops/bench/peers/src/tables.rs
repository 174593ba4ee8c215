//! The figures as tables: for a terminal, and for a page.
//!
//! Both show the same: a row for each thing that is measured, a column for each system, and in a cell the median of the rounds and how
//! many times better ours is.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

use crate::comparison::{Comparison, Figure, Measure};
use crate::plan::Point;
use crate::report::{ContenderReport, Report};

/// What stands where there is no figure.
const NOTHING: &str = "-";

/// A group of rows.
struct Section {
    title: &'static str,
    rows: Vec<(String, Point, Measure)>,
}

/// What the tables say, in order.
fn sections() -> Vec<Section> {
    let appends = [Point::Append1, Point::Append16, Point::Append128, Point::Append1024, Point::AppendBatch, Point::AppendLarge];
    let reads = [Point::Highest, Point::ReplayOne, Point::ReplayMany];
    let plain =
        |points: &[Point], measure: Measure| points.iter().map(|point| (point.to_string(), *point, measure)).collect::<Vec<_>>();
    let told = |points: &[Point], measure: Measure| {
        points.iter().map(|point| (format!("{point}: {}", measure.title), *point, measure)).collect::<Vec<_>>()
    };
    let latencies = appends.iter().flat_map(|point| [told(&[*point], Measure::P50), told(&[*point], Measure::P99)].concat());
    let cost = [
        told(&appends, Measure::SERVERS_PROCESSOR),
        told(&reads, Measure::SERVERS_PROCESSOR),
        told(&appends, Measure::CLIENT_PROCESSOR),
    ];
    vec![
        Section { title: "Appends, events a second", rows: plain(&appends, Measure::EVENTS) },
        Section { title: "Appends, latency", rows: latencies.collect() },
        Section { title: "Reads, events or answers a second", rows: plain(&reads, Measure::EVENTS) },
        Section {
            title: "Writers and readers together",
            rows: vec![
                ("mixed: events written/s".to_owned(), Point::Mixed, Measure::EVENTS),
                ("mixed: events replayed/s".to_owned(), Point::Mixed, Measure::READS),
                ("storm: s until all are recovered".to_owned(), Point::Storm, Measure::STORM),
                ("storm: events written/s meanwhile".to_owned(), Point::Storm, Measure::EVENTS),
            ],
        },
        Section {
            title: "The leader is killed, 128 writers",
            rows: vec![
                ("longest wait of a writer, ms".to_owned(), Point::Failover, Measure::WAIT),
                ("longest time without any acknowledgement, ms".to_owned(), Point::Failover, Measure::SILENCE),
            ],
        },
        Section {
            title: "A node is killed and started again",
            rows: vec![("s until it serves, a million events stored".to_owned(), Point::Restart, Measure::RESTART)],
        },
        Section { title: "CPU seconds for a thousand events", rows: cost.concat() },
        Section { title: "CPU at rest", rows: vec![("all servers, % of one processor".to_owned(), Point::Idle, Measure::IDLE)] },
        Section {
            title: "Space",
            rows: vec![
                ("disk per 256 B event and node, settled, B".to_owned(), Point::Disk, Measure::DISK),
                ("memory of the servers, 128 writers, MiB (PSS)".to_owned(), Point::Append128, Measure::MEMORY),
            ],
        },
        Section {
            title: "Processors that everything else kept busy meanwhile",
            rows: plain(&[&appends[..], &reads[..], &[Point::Mixed, Point::Storm]].concat(), Measure::OTHERS),
        },
    ]
}

/// A section of a run: its header, with those who have a figure in it, and its rows that have one.
fn section_cells(report: &Report, section: &Section, ours: &str) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let compared = section.rows.iter().filter_map(|(label, point, measure)| {
        let comparison = Comparison::of(report, *point, measure, ours)?;
        comparison.figures.iter().any(|figure| figure.median.is_some()).then_some((label, measure, comparison))
    });
    let compared: Vec<_> = compared.collect();
    let has_figure = |taker: &&ContenderReport| {
        let figures = compared.iter().filter_map(|(_, _, comparison)| comparison.figure(&taker.name));
        taker.is_system && taker.skipped.is_none() || figures.into_iter().any(|figure| figure.median.is_some())
    };
    let takers: Vec<_> = report.contenders.iter().filter(has_figure).collect();
    let header = std::iter::once(String::new()).chain(takers.iter().map(|taker| taker.title.clone())).collect();
    let rows = compared.iter().map(|(label, measure, comparison)| {
        let cells = takers.iter().map(|taker| match comparison.figure(&taker.name) {
            Some(figure) if taker.is_system || figure.median.is_some() => cell(figure, measure),
            _ => NOTHING.to_owned(),
        });
        std::iter::once((*label).clone()).chain(cells).collect()
    });
    (!compared.is_empty()).then(|| (header, rows.collect()))
}

fn cell(figure: &Figure, measure: &Measure) -> String {
    let Some(median) = figure.median else { return figure.why_not.clone().unwrap_or_else(|| NOTHING.to_owned()) };
    // What others do is no merit of ours.
    match figure.ours_is_better.filter(|_| measure.title != Measure::OTHERS.title) {
        Some(times) => format!("{} ({}x)", number(median), number(times)),
        None => number(median),
    }
}

/// A number as people read it: about three digits that say something, and whole thousands apart.
#[must_use]
pub fn number(number: f64) -> String {
    let digits = match number.abs() {
        from_100 if from_100 >= 99.95 => 0,
        from_10 if from_10 >= 9.995 => 1,
        from_1 if from_1 >= 0.9995 => 2,
        from_tenth if from_tenth >= 0.0995 => 3,
        _ => 4,
    };
    let text = format!("{number:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, _)| (whole, &text[whole.len()..]));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// How the figures were made.
fn conditions(report: &Report) -> String {
    let machine = &report.machine;
    let rounds = if report.rounds == 1 { "one round".to_owned() } else { format!("medians of {} rounds", report.rounds) };
    format!(
        "{} processors ({}), {} of memory, Linux {}; {rounds}, {} s each after {} s of warm-up; replays of {} events, and of {} journals \
         of {} events each",
        machine.processors,
        machine.processor,
        bytesize::ByteSize(machine.memory_bytes),
        machine.kernel,
        report.seconds,
        report.warm_up_seconds,
        number(report.sizes.long_events as f64),
        number(report.sizes.journals as f64),
        report.sizes.journal_events,
    )
}

fn versions(report: &Report) -> Vec<String> {
    let told = report.contenders.iter().map(|contender| match (&contender.version, &contender.skipped) {
        (Some(version), _) => format!("{}: {version}", contender.title),
        (None, skipped) => format!("{}: skipped, {}", contender.title, skipped.as_deref().unwrap_or("not installed")),
    });
    told.collect()
}

/// How each one failed that did.
fn failures(report: &Report) -> Vec<String> {
    let failed = report.points.iter().flat_map(|point| point.contenders.iter().map(move |samples| (point.point, samples)));
    let told = failed.filter_map(|(point, samples)| Some(format!("{}, {point}: {}", samples.name, samples.failed.as_ref()?)));
    told.collect()
}

/// What a figure in brackets says.
fn legend(report: &Report, ours: &str) -> String {
    let ours = report.contenders.iter().find(|contender| contender.name == ours).map_or(ours, |contender| &contender.title);
    format!("In brackets: how many times better {ours} does in the same round, the median of the rounds; below 1 it does worse.")
}

/// The figures for a terminal.
#[must_use]
pub fn figures_text(report: &Report, ours: &str) -> String {
    let mut text = String::new();
    for section in sections() {
        let Some((header, rows)) = section_cells(report, &section, ours) else { continue };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
        table.add_rows(rows);
        let _ = writeln!(text, "{}\n{table}\n", section.title);
    }
    let lines = [vec![conditions(report)], versions(report), failures(report), vec![legend(report, ours)]].concat();
    text + &lines.join("\n")
}

/// The figures for a page.
#[must_use]
pub fn figures_markdown(report: &Report, ours: &str) -> String {
    let mut text = format!("{}.\n\n", conditions(report));
    for line in [versions(report), failures(report)].concat() {
        let _ = writeln!(text, "- {}", escape(&line));
    }
    let _ = writeln!(text, "\n{}", legend(report, ours));
    for section in sections() {
        let Some((header, rows)) = section_cells(report, &section, ours) else { continue };
        let _ = writeln!(text, "\n### {}\n", section.title);
        let line = |cells: &[String]| format!("| {} |", cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | "));
        let _ = writeln!(text, "{}\n|---|{}", line(&header), "---:|".repeat(header.len() - 1));
        for row in &rows {
            let _ = writeln!(text, "{}", line(row));
        }
    }
    text
}

/// Text in which nothing ends a cell or a line.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::tests::report;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        for (value, text) in [
            (1_234_567.8, "1,234,568"),
            (100.4, "100"),
            (99.96, "100"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.3444, "0.344"),
            (0.0081, "0.0081"),
            (0.0, "0.0000"),
            (-1_234.0, "-1,234"),
            (-123.0, "-123"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_terminal_shows_figures_reasons_and_who_is_missing() {
        let text = figures_text(&report(), "cairn");
        for part in [
            "300 (3.50x)",
            "no automatic failover",
            "Third: skipped, not installed",
            "medians of 2 rounds",
            "Cairn does in the same round",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        assert!(!text.contains("Reads, events"), "a section without figures is left out:\n{text}");
    }

    #[test]
    fn the_page_has_whole_tables_and_nothing_of_html() {
        let page = figures_markdown(&report(), "cairn");
        assert!(page.contains("| append, 1 writer, 256 B | 750 | 300 (3.50x) |"), "{page}");
        assert!(page.contains("|  | Cairn | Other |\n|---|---:|---:|\n"), "{page}");
        assert!(page.contains("A <processor>") || page.contains("A &lt;processor>"));
        let columns: Vec<_> = page.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert!(!columns.is_empty() && columns.iter().all(|count| *count == 4), "{page}");
    }

    #[test]
    fn a_failure_is_told_with_its_point() {
        let mut report = report();
        report.points[0].contenders[1].failed = Some("no answer".to_owned());
        report.points[0].contenders[1].rounds = vec![None, None];
        let text = figures_text(&report, "cairn");
        assert!(text.contains("other, append, 1 writer, 256 B: no answer") && text.contains("failed"), "{text}");
    }
}
