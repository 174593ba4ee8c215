//! Where the other members' peer ports are, kept beside the tables and not in them: a node that lost its tables asks there for a
//! checkpoint. The founders in the settings are not enough: a node that joined has none, and founders are replaced.
//!
//! Invariants
//! - The file is a hint: nobody is trusted because an address stands in it, and one that is missing or damaged costs only the hint.
//! - It is replaced as a whole, and never by an empty one.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::NodeId;
use cairn_raft::{Group, Leadership};
use cairn_storage::fs::{Fs, read_file, write_file_atomically};
use tokio::sync::watch;

use crate::sealed_text;

/// The file's name in the data directory.
const FILE: &str = "peers";
/// The first line. The number is the version of the format; persisted.
const HEADING: &str = "cairn-peers 1";
/// The file is never longer, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// The addresses that were known when the node ran last.
pub(crate) async fn read(fs: &dyn Fs, dir: &Path) -> BTreeSet<String> {
    let path = dir.join(FILE);
    let found = async {
        if !fs.exists(&path).await? {
            return Ok(BTreeSet::new());
        }
        let bytes = read_file(fs, &path, FILE_BYTES_MAX).await?;
        decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
    };
    found.await.unwrap_or_else(|error: io::Error| {
        tracing::warn!(path = %path.display(), %error, "the known peers are not read: only founders are asked for lost tables");
        BTreeSet::new()
    })
}

/// Keeps the file as the members are, for as long as it runs.
pub(crate) async fn keep(fs: Arc<dyn Fs>, dir: PathBuf, own: NodeId, groups: Vec<Group>) {
    let mut known = read(&*fs, &dir).await;
    let mut watches: Vec<watch::Receiver<Leadership>> = groups.iter().map(Group::watch).collect();
    loop {
        let now = addresses(&mut watches, own);
        if !now.is_empty() && now != known {
            match write_file_atomically(&*fs, &dir.join(FILE), Bytes::from(encode(&now))).await {
                Ok(()) => known = now,
                Err(error) => tracing::warn!(%error, "the known peers are not written"),
            }
        }
        let changes = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
        let (changed, _, _) = futures::future::select_all(changes).await;
        if changed.is_err() {
            return;
        }
    }
}

/// The addresses of all members of all shards but this node.
fn addresses(watches: &mut [watch::Receiver<Leadership>], own: NodeId) -> BTreeSet<String> {
    let mut addresses = BTreeSet::new();
    for watch in watches {
        let now = watch.borrow_and_update();
        let others = now.members.voters.iter().chain(&now.members.learners).filter(|node| node.node_id != own);
        addresses.extend(others.map(|node| node.peer_address.clone()));
    }
    addresses
}

fn encode(addresses: &BTreeSet<String>) -> String {
    let lines: String = addresses.iter().flat_map(|address| ["peer ", address, "\n"]).collect();
    sealed_text::seal(&format!("{HEADING}\n{lines}"))
}

fn decode(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let mut lines = sealed_text::open(bytes).ok()?.lines();
    if lines.next() != Some(HEADING) {
        return None;
    }
    lines.map(|line| line.strip_prefix("peer ").map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use cairn_storage::fs::MemoryFs;

    use super::*;

    fn some() -> BTreeSet<String> {
        ["node-1:7201".to_owned(), "node-2:7201".to_owned()].into()
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_without_a_file_nothing_is_known() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("data")).await.expect("is made");
        assert_eq!(read(&fs, Path::new("data")).await, BTreeSet::new());
        write_file_atomically(&fs, Path::new("data/peers"), encode(&some()).into()).await.expect("is written");
        assert_eq!(read(&fs, Path::new("data")).await, some());
    }

    #[test]
    fn version_one_is_read_for_ever_and_a_flipped_bit_or_a_cut_is_found() {
        let good = b"cairn-peers 1\npeer node-1:7201\npeer node-2:7201\nchecksum 6785c75f\n";
        assert_eq!(encode(&some()).as_bytes(), good);
        assert_eq!(decode(good), Some(some()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
        for len in 0..good.len() {
            assert_eq!(decode(&good[..len]), None, "cut at {len}");
        }
    }
}
