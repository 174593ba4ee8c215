//! Every bound of the product that concerns what a user may send, in one place.
//!
//! All of them are enforced before a command is proposed, each with its own error; the rules rely on them and check only what
//! depends on stored state.

/// Longest persistence id, in bytes of UTF-8.
pub const PERSISTENCE_ID_BYTES_MAX: usize = 1024;
/// Longest writer id, in bytes of UTF-8.
pub const WRITER_ID_BYTES_MAX: usize = 128;
/// Longest serializer or event-adapter manifest, in bytes of UTF-8.
pub const MANIFEST_BYTES_MAX: usize = 4096;
/// Longest tag, in bytes of UTF-8.
pub const TAG_BYTES_MAX: usize = 256;
/// Most tags of one event.
pub const TAGS_MAX: usize = 64;
/// Largest metadata payload of one event or snapshot, in bytes.
pub const METADATA_BYTES_MAX: usize = 64 * 1024;
/// Most events in one atomic write.
pub const ATOMIC_WRITE_EVENTS_MAX: usize = 10_000;
/// Largest atomic write as encoded, in bytes: payloads, manifests, metadata and tags together.
pub const ATOMIC_WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most atomic writes in one write command.
pub const WRITE_ATOMIC_WRITES_MAX: usize = 1_000;
/// Largest write command as encoded, in bytes: one atomic write of the greatest size still fits.
pub const WRITE_BYTES_MAX: usize = ATOMIC_WRITE_BYTES_MAX + 64 * 1024;
/// Most commands gathered into one Raft entry.
pub const BATCH_COMMANDS_MAX: usize = 1_024;
/// Gathering stops at this size in bytes; one command alone may be larger.
pub const BATCH_BYTES_TARGET: usize = 1024 * 1024;
/// Largest Raft entry's payload in bytes.
pub const BATCH_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Largest chunk of a snapshot that travels in chunks, and largest snapshot saved in one command, in bytes.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 512 * 1024;
/// Largest snapshot, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most snapshots of one persistence id.
pub const SNAPSHOTS_MAX: usize = 10_000;
/// Most snapshot uploads in progress in one shard.
pub const UPLOADS_MAX: usize = 64;
/// An upload without a new chunk for this long may be dropped in favour of another, in microseconds of the leader's clock.
pub const UPLOAD_IDLE_MICROS_MAX: i64 = 10 * 60 * 1_000_000;
/// Former writers remembered for each journal.
pub const FORMER_WRITERS_MAX: usize = 16;
/// Snapshot saves remembered for each journal.
pub const RECENT_SAVES_MAX: usize = 16;
/// Most shards of a cluster; their number is a power of two.
pub const SHARDS_MAX: u16 = 64;

const _: () = assert!(WRITE_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(WRITE_BYTES_MAX + BATCH_BYTES_TARGET <= BATCH_BYTES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX + METADATA_BYTES_MAX < BATCH_BYTES_TARGET);
const _: () = assert!(crate::SLICES.is_multiple_of(SHARDS_MAX));
