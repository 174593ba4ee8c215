//! The options that all commands share.

use std::time::Duration;

use clap::Args;

use crate::output::{Format, Output};

/// Where the nodes of `cairn dev` listen for clients.
const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103";

/// What all commands share.
#[derive(Clone, Debug, Args)]
pub struct Shared {
    /// Client addresses of the cluster; one that answers is enough.
    #[arg(
        long,
        global = true,
        env = "CAIRN_ENDPOINTS",
        value_delimiter = ',',
        default_value = DEFAULT_ENDPOINTS,
        value_name = "HOST:PORT,..",
        help_heading = "Common options"
    )]
    pub endpoints: Vec<String>,
    /// How results look: a table for people, JSON for programs.
    #[arg(
        short,
        long,
        global = true,
        env = "CAIRN_OUTPUT",
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Common options"
    )]
    pub output: Format,
    /// How long one request is tried again before its outcome is given up as unknown or unavailable.
    #[arg(
        long,
        global = true,
        env = "CAIRN_DEADLINE",
        value_parser = humantime::parse_duration,
        default_value = "30s",
        value_name = "DURATION",
        help_heading = "Common options"
    )]
    pub deadline: Duration,
}

impl Shared {
    /// Where results go.
    pub fn output(&self) -> Output {
        Output { format: self.output }
    }
}
