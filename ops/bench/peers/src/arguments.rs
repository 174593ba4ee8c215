//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use cairn_bench_peers::systems::SystemName;
use cairn_bench_peers::{Plan, Point, Sizes};
use clap::{Parser, ValueEnum};

/// How long data must not change until it counts as settled: longer than any system rests between two of its clean-ups.
const CALM: Duration = Duration::from_secs(2);

/// Runs the same work on Cairn and on what a user would pick instead, in turn, and compares them.
///
/// Each is a real cluster of three processes on loopback, with its data on a disk; it is started and stopped here. What is not
/// installed is skipped.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// How often everything is measured; systems take turns within each round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How long each point is measured.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// How long each point is under load before it is measured.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    warm_up_seconds: f64,
    /// Which systems [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    pub systems: Vec<SystemName>,
    /// Which points [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,..")]
    points: Vec<Point>,
    /// Cairn's binary [default: beside this one; under cargo it is built].
    #[arg(long, value_name = "PATH")]
    pub cairn: Option<PathBuf>,
    /// Where the data is while it runs: on a real disk [default: a temporary folder].
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Threads of the clients, of all systems alike.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub client_threads: u16,
    /// Also write everything that was measured as JSON here.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure nothing: tell of the run that such a file holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "systems", "points", "rounds", "seconds", "cairn"])]
    pub from: Option<PathBuf>,
    /// Also draw pictures here, as SVG.
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
    /// Also put the tables into this page, between its marks.
    #[arg(long, value_name = "FILE")]
    pub document: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number of seconds from 0.1 to 3600".to_owned()),
    }
}

impl Arguments {
    /// What is measured.
    pub fn plan(&self) -> Plan {
        Plan {
            points: or_all(&self.points),
            rounds: self.rounds.into(),
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            duration: Duration::from_secs_f64(self.seconds),
            calm: CALM,
            sizes: Sizes::default(),
        }
    }

    /// Who takes part.
    pub fn systems(&self) -> Vec<SystemName> {
        or_all(&self.systems)
    }
}

fn or_all<T: ValueEnum + Clone>(chosen: &[T]) -> Vec<T> {
    if chosen.is_empty() { T::value_variants().to_vec() } else { chosen.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn without_a_word_everything_is_measured_three_times() {
        let arguments = parse("peers").expect("the defaults");
        let plan = arguments.plan();
        assert_eq!((plan.rounds, plan.duration, plan.warm_up), (3, Duration::from_secs(5), Duration::from_secs(1)));
        assert_eq!(
            (plan.points.len(), arguments.systems().len()),
            (Point::value_variants().len(), SystemName::value_variants().len())
        );
    }

    #[test]
    fn points_and_systems_are_chosen_by_name() {
        let arguments =
            parse("peers --systems etcd,jetstream-synced --points append-1,storm --rounds 2 --seconds 0.5").expect("names");
        assert_eq!(arguments.systems(), [SystemName::Etcd, SystemName::JetstreamSynced]);
        let plan = arguments.plan();
        assert_eq!(
            (plan.points, plan.rounds, plan.duration),
            (vec![Point::Append1, Point::Storm], 2, Duration::from_millis(500))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["peers --rounds 0", "peers --seconds 0", "peers --seconds x", "peers --systems mysql", "peers --points all"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
