//! Exit codes: one table, for the process and for `--help`.

use std::process::ExitCode;

/// Why the process ended. The numbers are part of the command line's contract: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It did not come out as it must.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// A setting, a file or a value is wrong.
    Input = 3,
    /// Refused by the rules or by a safety check.
    Refused = 4,
    /// Not applied.
    Unavailable = 5,
    /// Nobody knows whether it was applied.
    Unknown = 6,
    /// There is no such thing.
    NotFound = 7,
    /// Stored data is damaged or was removed while it was read.
    Damaged = 8,
    /// Stopped by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

/// Every code with its meaning, for `--help`.
pub const TABLE: &str = "\
Exit codes:
    0  done
    1  failed: it did not come out as it must (the message says what differed)
    2  the command line cannot be understood
    3  a setting, a file or a value is wrong; it was not applied
    4  refused by the rules or by a safety check; it was not applied, and trying again is no use
    5  the cluster did not take it in time; it was not applied, try again
    6  nobody knows whether it was applied: read first, or run it again, which is safe for all but
       `journal append` without `--after`
    7  there is no such journal, snapshot or node
    8  stored data is damaged, or was removed while it was read
  130  stopped by Ctrl-C or SIGTERM

An import that stops at a line, with whatever code, may have stored what stands before it; running
it again stores nothing twice. A demo that does not come out well ends with 1, whatever the cause.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that carries its exit code.
#[derive(Debug)]
pub struct Stop {
    /// The code.
    pub exit: Exit,
    message: String,
}

impl Stop {
    /// An error with this code and message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Wrong input.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Stop {}
