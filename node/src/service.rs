//! The public API, one file for each family of calls.
//!
//! Each handler parses its request (limits and syntax are checked there and never later), asks the shard, and turns the answer
//! into wire messages. Failures become statuses in one place, [`answered`].

use std::time::Duration;

use cairn_api::v1::Failure;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

use crate::core::Core;

mod cluster;
mod cluster_change;
mod follow;
mod journal;
mod pipeline;
mod recover;
mod replay;
mod snapshots;
mod stream;

pub(crate) use cluster::ClusterService;
pub(crate) use journal::JournalService;
pub(crate) use snapshots::SnapshotsService;

/// Counts a call and turns its outcome into gRPC's form.
fn answered<T>(core: &Core, method: &'static str, outcome: Result<T, Failure>) -> Result<Response<T>, Status> {
    match outcome {
        Ok(message) => {
            core.metrics.request(method, Code::Ok);
            Ok(Response::new(message))
        }
        Err(failure) => {
            let status = Status::from(failure);
            core.metrics.request(method, status.code());
            Err(status)
        }
    }
}

/// When a request must be answered: the caller's deadline if it is nearer than the node's own.
///
/// A little before the caller's, so that the answer still arrives with its reason.
fn deadline(core: &Core, metadata: &MetadataMap) -> Instant {
    let own = core.settings.request_deadline();
    let callers = metadata.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    let left = callers.map_or(own, |callers| own.min(callers - callers / 20));
    Instant::now() + left
}

/// The form of gRPC's timeouts: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let digits = &text[..unit_at];
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number * 3600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_none() {
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse_timeout("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parse_timeout("15S"), Some(Duration::from_secs(15)));
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("250u"), Some(Duration::from_micros(250)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for nonsense in ["", "S", "-1S", "123456789S", "1.5S", "10", "1ä", "ä"] {
            assert_eq!(parse_timeout(nonsense), None, "{nonsense:?}");
        }
    }
}
