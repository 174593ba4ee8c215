//! The table of errors is total, and every fact survives the way through a gRPC status.

use std::time::Duration;

use cairn_api::code_of;
use cairn_api::v1::{Failure, Reason};
use cairn_machine::{NodeId, Refusal, SequenceNumber, TooMany, WriterEpoch, WriterId};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn reasons() -> Vec<Reason> {
    (-1..1_000).filter_map(|number| Reason::try_from(number).ok()).collect()
}

fn refusals() -> Vec<Refusal> {
    let (highest, epoch, writer) = (SequenceNumber(7), WriterEpoch(3), WriterId::new("w-1").unwrap());
    vec![
        Refusal::Conflict { highest, writer: writer.clone(), epoch },
        Refusal::Fenced { epoch, writer: writer.clone(), highest },
        Refusal::EpochMoved { epoch, writer },
        Refusal::Forgotten,
        Refusal::UploadIncomplete { chunks: 12 },
        Refusal::TooMany { what: TooMany::Uploads },
        Refusal::TooMany { what: TooMany::Snapshots },
        Refusal::TooMany { what: TooMany::SnapshotBytes },
    ]
}

#[test]
fn every_reason_has_a_code_and_comes_back_from_a_status() {
    assert_eq!(reasons().len(), 20, "19 and the unspecified one");
    for reason in reasons() {
        assert_ne!(code_of(reason), Code::Ok, "{reason:?}");
        let failure = Failure::new(reason, format!("what {reason:?} says"));
        let status = Status::from(failure.clone());
        assert_eq!(status.code(), code_of(reason));
        assert_eq!(status.message(), failure.message);
        assert_eq!(Failure::from_status(&status), Some(failure));
    }
}

#[test]
fn the_codes_that_other_clients_rely_on_stay() {
    let table = [
        (Reason::Conflict, Code::Aborted),
        (Reason::Fenced, Code::FailedPrecondition),
        (Reason::Invalid, Code::InvalidArgument),
        (Reason::TooLarge, Code::InvalidArgument),
        (Reason::NotLeader, Code::Unavailable),
        (Reason::Overloaded, Code::ResourceExhausted),
        (Reason::Unknown, Code::Unknown),
        (Reason::Damaged, Code::DataLoss),
        (Reason::NotFound, Code::NotFound),
    ];
    for (reason, code) in table {
        assert_eq!(code_of(reason), code, "{reason:?}");
    }
}

#[test]
fn only_what_is_certain_counts_as_not_applied() {
    let uncertain: Vec<Reason> = reasons().into_iter().filter(|reason| !reason.is_not_applied()).collect();
    assert_eq!(uncertain, [Reason::Unspecified, Reason::Forgotten, Reason::Unknown, Reason::Damaged]);
}

#[test]
fn every_refusal_comes_back_with_its_facts() {
    for refusal in refusals() {
        let status = Status::from(Failure::from(refusal.clone()));
        let failure = Failure::from_status(&status).unwrap();
        assert_eq!(failure.refusal(), Some(refusal.clone()), "{failure:?}");
        assert_eq!(failure.reason().is_not_applied(), refusal != Refusal::Forgotten);
    }
    assert_eq!(Failure::new(Reason::Overloaded, "").refusal(), None);
}

#[test]
fn generic_tools_find_the_standard_details() {
    let failure = Failure::overloaded("writes", Duration::from_millis(1_250));
    let details = Status::from(failure).get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", "cairn"));
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1_250)));
}

#[test]
fn a_leader_hint_comes_back() {
    let hint = Failure::not_leader(Some((NodeId(3), "127.0.0.1:7103".to_owned())));
    let leader = Failure::from_status(&hint.into()).unwrap().leader.unwrap();
    assert_eq!((leader.node_id, leader.client_address.as_str()), (3, "127.0.0.1:7103"));
    assert_eq!(Failure::not_leader(None).reason(), Reason::NoLeader);
}

#[test]
fn a_status_from_elsewhere_is_not_taken_for_ours() {
    assert_eq!(Failure::from_status(&Status::unavailable("connection reset")), None);
    assert_eq!(Failure::from_status(&Status::with_details(Code::Unknown, "", vec![0xff; 40].into())), None);
    let foreign = Failure::new(Reason::Conflict, "x").encode_to_vec();
    assert_eq!(Failure::from_status(&Status::with_details(Code::Aborted, "", foreign.into())), None);
}

#[test]
fn the_largest_failure_fits_into_trailers() {
    let writer = WriterId::new("ü".repeat(64)).unwrap();
    let mut failure =
        Failure::from(Refusal::Conflict { highest: SequenceNumber::MAX, writer, epoch: WriterEpoch(u64::MAX >> 1) });
    failure.message = Failure::new(Reason::Conflict, "ü".repeat(10_000)).message;
    assert!(failure.message.len() <= 1_024);
    failure.retry_after_millis = u64::MAX >> 1;
    let headers = Status::from(failure).to_http_size();
    assert!(headers < 8 * 1024, "{headers} bytes of trailers");
}

trait HttpSize {
    fn to_http_size(self) -> usize;
}

impl HttpSize for Status {
    fn to_http_size(self) -> usize {
        let headers = self.into_http::<()>();
        headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }
}
