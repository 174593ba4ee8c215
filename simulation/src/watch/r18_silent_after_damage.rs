//! R18: a node that was told that a write or a sync of its log failed writes nothing more to it in that life.
//!
//! The list of invariants, and Rebello and others, "Can applications recover from fsync failures?": a sync that succeeds after one that
//! failed says nothing about what was written before. What is not written is not acknowledged (R13), and no vote is given (R1).

use cairn_storage::log::inspect::Frame;

use super::{Checked, broken};

pub(super) fn written(node: u64, has_failed: bool, frame: &Frame) -> Checked {
    if has_failed && !frame.records.is_empty() {
        let (batch, segment) = (frame.batch, frame.segment);
        return broken("R18", format!("node {node} wrote batch {batch} into segment {segment} after its log had failed"));
    }
    Ok(())
}
