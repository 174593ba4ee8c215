//! From an error to what the user is told: a message on standard error and an exit code.

use std::io;

use cairn_client::Error;

use crate::exit::{Exit, Stop};
use crate::import::{ImportError, InputError};
use crate::lines::LineError;

/// Tells the user, and returns the exit code.
pub fn report(error: &anyhow::Error) -> Exit {
    let exit = exit_of(error);
    // A reader that closed the pipe has what it wanted, and whoever pressed Ctrl-C knows.
    if !matches!(exit, Exit::Done | Exit::Interrupted) {
        eprintln!("cairn: {}", text(error));
    }
    exit
}

/// The error and its causes. Some say their cause's words already: those are not said again.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code that an error ends with.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of_cause).unwrap_or(Exit::Failed)
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(stop) = cause.downcast_ref::<Stop>() {
        return Some(stop.exit);
    }
    if let Some(error) = cause.downcast_ref::<Error>() {
        return Some(exit_of_client(error));
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return (error.kind() == io::ErrorKind::BrokenPipe).then_some(Exit::Done);
    }
    if let Some(error) = cause.downcast_ref::<ImportError<Error>>() {
        return match error {
            ImportError::Input(_) => Some(Exit::Input),
            ImportError::Refused { .. } => Some(Exit::Refused),
            // Its cause says more.
            ImportError::Write { .. } => None,
        };
    }
    let input = cause.is::<InputError>() || cause.is::<LineError>() || cause.is::<cairn_machine::Invalid>();
    input.then_some(Exit::Input)
}

fn exit_of_client(error: &Error) -> Exit {
    match error {
        Error::Invalid { .. } => Exit::Input,
        Error::Conflict { .. }
        | Error::Fenced { .. }
        | Error::EpochMoved { .. }
        | Error::UploadIncomplete { .. }
        | Error::TooMany { .. }
        | Error::Unsafe { .. } => Exit::Refused,
        Error::Unavailable { .. } | Error::ReadOnly { .. } => Exit::Unavailable,
        Error::Unknown { .. } | Error::Forgotten | Error::Protocol { .. } => Exit::Unknown,
        Error::NotFound { .. } => Exit::NotFound,
        Error::Gone { .. } | Error::Damaged { .. } => Exit::Damaged,
        other if other.is_definite() => Exit::Failed,
        _ => Exit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn check(error: impl Into<anyhow::Error>, exit: Exit) {
        let error = error.into().context("do something").context("demo: failed");
        assert_eq!(exit_of(&error), exit, "{error:#}");
    }

    #[test]
    fn a_cause_is_told_once() {
        let source = io::Error::other("the end is missing");
        let error = anyhow::Error::new(InputError::Read { line: 2, source }).context("import -");
        assert_eq!(text(&error), "import -: read line 2: the end is missing");
    }

    #[test]
    fn the_exit_code_says_what_to_do_next() {
        let message = String::new;
        check(anyhow!("anything"), Exit::Failed);
        check(Stop::input("a value"), Exit::Input);
        check(Stop::new(Exit::NotFound, "nothing"), Exit::NotFound);
        check(Error::Unknown { message: message() }, Exit::Unknown);
        check(Error::Forgotten, Exit::Unknown);
        check(Error::Unavailable { message: message() }, Exit::Unavailable);
        check(Error::Unsafe { message: message() }, Exit::Refused);
        check(Error::Invalid { message: message() }, Exit::Input);
        check(Error::Damaged { message: message() }, Exit::Damaged);
        check(io::Error::from(io::ErrorKind::BrokenPipe), Exit::Done);
        check(io::Error::from(io::ErrorKind::NotFound), Exit::Failed);
    }
}
