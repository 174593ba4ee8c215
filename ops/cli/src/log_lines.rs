//! A node's log lines: which, and in which form.

use anyhow::anyhow;
use cairn_node::{LogFormat, TelemetrySettings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Which log lines are written.
///
/// # Errors
/// What is wrong with `telemetry.filter`.
pub fn filter(telemetry: &TelemetrySettings) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(&telemetry.filter)
}

/// Writes log lines to standard error from now on.
///
/// # Errors
/// A wrong filter, or that lines are written already.
pub fn to_standard_error(telemetry: &TelemetrySettings) -> anyhow::Result<()> {
    let filter = filter(telemetry)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match telemetry.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    set.map_err(|error| anyhow!("write log lines: {error}"))
}
