//! `cargo simulate`: runs simulated worlds and says what came of them.

mod commands;
mod failures;
mod job;
mod progress;
mod tally;
mod workers;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Simulated partition tests of a whole Cairn cluster: one process, one seed, the same run every time.
#[derive(Parser)]
#[command(name = "cargo simulate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match commands::run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
