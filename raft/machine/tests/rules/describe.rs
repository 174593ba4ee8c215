//! Answers and states in words, complete: what a golden conversation shows is all there is.

use std::fmt::Write as _;

use cairn_machine::{Head, Refusal, Reply, SnapshotRecord, StoredEvent, Upload, WriteOutcome, WriterId};

pub fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Write(reply) => {
            let mut text = format!("write: highest {}", reply.highest);
            if let Some(check) = &reply.check {
                write!(text, ", {}", refusal(check)).expect("text grows");
            }
            for outcome in &reply.outcomes {
                write!(text, "\n  {}", self::outcome(outcome)).expect("text grows");
            }
            text
        }
        Reply::Claim(Ok(granted)) => format!("claim: epoch {}, highest {}", granted.epoch, granted.highest),
        Reply::Claim(Err(no)) => format!("claim: {}", refusal(no)),
        Reply::DeleteTo(Ok(deleted)) => format!("delete: deleted to {}, highest {}", deleted.deleted_to, deleted.highest),
        Reply::DeleteTo(Err(no)) => format!("delete: {}", refusal(no)),
        Reply::SnapshotChunk(Ok(chunks)) => format!("chunk: {chunks} there"),
        Reply::SnapshotChunk(Err(no)) => format!("chunk: {}", refusal(no)),
        Reply::SaveSnapshot(Ok(saved)) => format!("save: number {}, timestamp {}", saved.save_number, saved.timestamp),
        Reply::SaveSnapshot(Err(no)) => format!("save: {}", refusal(no)),
        Reply::DeleteSnapshots(Ok(deleted)) => format!("delete snapshots: {} deleted", deleted.deleted),
        Reply::DeleteSnapshots(Err(no)) => format!("delete snapshots: {}", refusal(no)),
    }
}

fn outcome(outcome: &WriteOutcome) -> String {
    match outcome {
        WriteOutcome::Stored { previous, position, timestamp } => {
            format!("stored: previous {previous}, position {position}, time {timestamp}")
        }
        WriteOutcome::Refused(no) => refusal(no),
    }
}

fn refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Conflict { highest, writer, epoch } => {
            format!("refused: conflict, highest {highest}, writer {}, epoch {epoch}", named(writer))
        }
        Refusal::Fenced { epoch, writer, highest } => {
            format!("refused: fenced by {} at epoch {epoch}, highest {highest}", named(writer))
        }
        Refusal::EpochMoved { epoch, writer } => format!("refused: epoch is {epoch}, writer {}", named(writer)),
        Refusal::Forgotten => "refused: forgotten".to_owned(),
        Refusal::UploadIncomplete { chunks } => format!("refused: upload incomplete, {chunks} chunks there"),
        Refusal::TooMany { what } => format!("refused: too many, {what:?}"),
        other => panic!("describe this refusal: {other:?}"),
    }
}

pub fn head(name: &str, head: &Head) -> String {
    let mut text = format!(
        "{name}: journal {}, highest {}, deleted to {}, removed to {}, epoch {}, writer {}, time {}",
        head.journal,
        head.highest,
        head.deleted_to,
        head.removed_to,
        head.epoch,
        named(&head.writer),
        head.timestamp
    );
    if let Some(last) = &head.last_write {
        write!(text, ", last write {}-{}", last.first, last.last).expect("text grows");
    }
    if !head.former_writers.is_empty() {
        let former: Vec<String> =
            head.former_writers.iter().map(|former| format!("{}@{}", named(&former.writer), former.epoch)).collect();
        write!(text, ", former {}", former.join(" ")).expect("text grows");
    }
    if head.saves.0 > 0 {
        let recent: Vec<String> =
            head.recent_saves.iter().map(|save| format!("{}={}", save.number, save.save_id.0.as_u128())).collect();
        write!(text, ", saves {} ({}), snapshots {}", head.saves, recent.join(" "), head.snapshots).expect("text grows");
    }
    text
}

pub fn event(event: &StoredEvent) -> String {
    let tags: String = event.event.tags.iter().map(|tag| format!("#{tag}")).collect();
    format!(
        "{}={}{tags} by {}, position {}, time {}, write {}{}",
        event.event.sequence_number,
        String::from_utf8_lossy(&event.event.payload.bytes),
        named(&event.writer),
        event.position,
        event.timestamp,
        event.write_first,
        if event.deleted { ", deleted" } else { "" }
    )
}

pub fn snapshot(snapshot: &SnapshotRecord, bytes: &[u8]) -> String {
    format!(
        "snapshot at {} of save {} (number {}), timestamp {}, by {}, {} chunks, {} bytes: {}",
        snapshot.sequence_number,
        snapshot.save_id.0.as_u128(),
        snapshot.save_number,
        snapshot.timestamp,
        named(&snapshot.writer),
        snapshot.chunks,
        snapshot.bytes_total,
        String::from_utf8_lossy(bytes)
    )
}

pub fn upload(save: u128, upload: &Upload) -> String {
    let Upload { journal, chunks, bytes_total, timestamp } = upload;
    format!("upload of save {save}: journal {journal}, {chunks} chunks, {bytes_total} bytes, time {timestamp}")
}

fn named(writer: &WriterId) -> &str {
    if writer.is_empty() { "-" } else { writer.as_str() }
}
