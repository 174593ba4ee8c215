//! Who this data directory belongs to: written once, when the node starts for the first time, and checked at every later start.
//!
//! The birth id tells one life of a directory from the next: the membership knows it, and a wiped directory comes back with
//! another one and is refused under the old number.
//!
//! Invariants
//! - A directory is used by one node of one cluster, with the number of shards that the cluster was born with.
//! - A damaged file is named; it is never written anew over an old life.

use std::io;
use std::path::Path;

use bytes::Bytes;
use cairn_machine::NodeId;
use cairn_raft::Identity;
use cairn_storage::fs::{Fs, read_file, write_file_atomically};
use uuid::Uuid;

use crate::sealed_text;
use crate::settings::Settings;

/// The file's name in the data directory.
const FILE: &str = "identity";
/// The first line. The number is the version of the format; persisted.
const HEADING: &str = "cairn-identity 1";
/// No identity is longer, in bytes.
const FILE_BYTES_MAX: usize = 4096;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("identity of the data directory: {0}")]
    Io(#[from] io::Error),
    /// The file is not what was written.
    #[error("identity of the data directory: {path} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file is of a later version of Cairn.
    #[error("identity of the data directory: {path} has the heading {found:?}, this version knows {HEADING:?}")]
    UnknownVersion {
        /// Which file.
        path: String,
        /// Its first line.
        found: String,
    },
    /// The directory is another node's, or another cluster's.
    #[error("the data directory belongs to {what} {found}, but the settings say {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What the settings say.
        expected: String,
    },
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    identity: Identity,
    shards: u16,
}

/// Reads the directory's identity; none if it has none yet.
///
/// # Errors
/// See [`IdentityError`].
pub(crate) async fn read(fs: &dyn Fs, dir: &Path, settings: &Settings) -> Result<Option<Identity>, IdentityError> {
    let path = dir.join(FILE);
    if !fs.exists(&path).await? {
        return Ok(None);
    }
    let bytes = read_file(fs, &path, FILE_BYTES_MAX).await?;
    let record = decode(&bytes, &path)?;
    check(&record, settings)?;
    Ok(Some(record.identity))
}

/// Gives a directory its identity. What an old life must have is made before: from here on what is missing is lost.
///
/// # Errors
/// See [`IdentityError`].
pub(crate) async fn create(fs: &dyn Fs, dir: &Path, settings: &Settings, birth_id: Uuid) -> Result<Identity, IdentityError> {
    let path = dir.join(FILE);
    let identity = Identity { cluster_id: settings.cluster.id, node_id: NodeId(settings.node.id), birth_id };
    let record = Record { identity, shards: settings.cluster.shards };
    write_file_atomically(fs, &path, Bytes::from(encode(&record))).await?;
    Ok(identity)
}

fn check(record: &Record, settings: &Settings) -> Result<(), IdentityError> {
    let same = |what, found: String, expected: String| {
        if found == expected { Ok(()) } else { Err(IdentityError::Mismatch { what, found, expected }) }
    };
    same("cluster", record.identity.cluster_id.to_string(), settings.cluster.id.to_string())?;
    same("node", record.identity.node_id.to_string(), settings.node.id.to_string())?;
    same("a cluster with a number of shards of", record.shards.to_string(), settings.cluster.shards.to_string())
}

fn encode(record: &Record) -> String {
    let Identity { cluster_id, node_id, birth_id } = record.identity;
    let body = format!("{HEADING}\ncluster {cluster_id}\nnode {node_id}\nbirth {birth_id}\nshards {}\n", record.shards);
    sealed_text::seal(&body)
}

fn decode(bytes: &[u8], path: &Path) -> Result<Record, IdentityError> {
    let damaged = |reason| IdentityError::Damaged { path: path.display().to_string(), reason };
    let mut lines = sealed_text::open(bytes).map_err(damaged)?.lines();
    let heading = lines.next().unwrap_or_default();
    if heading != HEADING {
        return Err(IdentityError::UnknownVersion { path: path.display().to_string(), found: heading.to_owned() });
    }
    let mut value = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let identity = Identity {
        cluster_id: value("cluster").and_then(|text| text.parse().ok()).ok_or_else(|| damaged("no cluster id"))?,
        node_id: value("node").and_then(|text| text.parse().ok()).map(NodeId).ok_or_else(|| damaged("no node id"))?,
        birth_id: value("birth").and_then(|text| text.parse().ok()).ok_or_else(|| damaged("no birth id"))?,
    };
    let shards = value("shards").and_then(|text| text.parse().ok()).ok_or_else(|| damaged("no number of shards"))?;
    Ok(Record { identity, shards })
}

#[cfg(test)]
mod tests {
    use cairn_storage::fs::{MemoryFs, OpenMode};

    use super::*;

    const VERSION_ONE: &str = "cairn-identity 1\n\
        cluster 00000000-0000-0000-0000-000000000007\n\
        node 1\n\
        birth 00000000-0000-0000-0000-000000000003\n\
        shards 4\n\
        checksum 7d12b100\n";

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.cluster.id = Uuid::from_u128(7);
        settings
    }

    async fn directory() -> MemoryFs {
        let fs = MemoryFs::default();
        fs.create_dir_all(Path::new("data")).await.expect("is made");
        fs
    }

    #[tokio::test]
    async fn the_first_start_gives_the_directory_its_identity_and_later_ones_keep_it() {
        let fs = directory().await;
        assert_eq!(read(&fs, Path::new("data"), &settings()).await.expect("is read"), None);
        let first = create(&fs, Path::new("data"), &settings(), Uuid::from_u128(1)).await.expect("is written");
        let second = read(&fs, Path::new("data"), &settings()).await.expect("is read");
        assert_eq!(Some(first), second);
        assert_eq!(first.birth_id, Uuid::from_u128(1));
    }

    #[tokio::test]
    async fn a_directory_of_another_cluster_or_node_is_refused() {
        let fs = directory().await;
        create(&fs, Path::new("data"), &settings(), Uuid::from_u128(1)).await.expect("is written");
        type Change = (&'static str, fn(&mut Settings));
        let changes: [Change; 3] = [
            ("cluster", |settings| settings.cluster.id = Uuid::from_u128(8)),
            ("node", |settings| settings.node.id = 2),
            ("a cluster with a number of shards of", |settings| settings.cluster.shards = 8),
        ];
        for (expected, change) in changes {
            let mut settings = settings();
            change(&mut settings);
            let error = read(&fs, Path::new("data"), &settings).await.expect_err("is refused");
            assert!(matches!(error, IdentityError::Mismatch { what, .. } if what == expected), "{error}");
        }
    }

    #[tokio::test]
    async fn version_one_is_read_for_ever_and_a_flipped_bit_or_a_cut_is_found() {
        let record = Record {
            identity: Identity { cluster_id: Uuid::from_u128(7), node_id: NodeId(1), birth_id: Uuid::from_u128(3) },
            shards: 4,
        };
        assert_eq!(encode(&record), VERSION_ONE);
        let good = VERSION_ONE.as_bytes().to_vec();
        assert_eq!(decode(&good, Path::new("identity")).expect("is good"), record);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            decode(&bad, Path::new("identity")).expect_err("is found");
        }
        for len in 0..good.len() {
            decode(&good[..len], Path::new("identity")).expect_err("is found");
        }
    }

    #[tokio::test]
    async fn a_damaged_identity_is_not_taken_for_a_new_directory() {
        let fs = directory().await;
        create(&fs, Path::new("data"), &settings(), Uuid::from_u128(1)).await.expect("is written");
        let file = fs.open(Path::new("data/identity"), OpenMode::ReadWrite).await.expect("opens");
        file.set_len(20).await.expect("is cut");
        let error = read(&fs, Path::new("data"), &settings()).await.expect_err("is refused");
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
    }
}
