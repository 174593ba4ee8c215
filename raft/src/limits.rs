//! Every bound of the peer protocol and of a shard's core, in one place.

use std::time::Duration;

/// Largest message that a node takes from a peer, in bytes: the largest entry still fits.
pub const PEER_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest frame that a peer may send, in bytes: a system call for each.
pub const PEER_FRAME_BYTES: u32 = 64 * 1024;
/// Replication stops adding entries to one message at this size in bytes; one entry alone may be larger.
pub(crate) const APPEND_BYTES_TARGET: usize = 1024 * 1024;
/// Most entries in one replication message.
pub(crate) const APPEND_ENTRIES_MAX: u64 = 512;
/// Most streams that a peer may open at once on one connection: an append stream for each shard, and some to spare.
pub const PEER_STREAMS_MAX: u32 = 512;
/// Largest header list of a peer's call, in bytes.
pub const PEER_HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// A ballot whose term is this far above our own is forged or damaged, and refused.
pub(crate) const TERM_LEAP_MAX: u64 = 1 << 40;
/// News of a commit waits this long for entries that take it along; a strong read on a follower hurries it.
pub(crate) const COMMIT_HELD_MAX: Duration = Duration::from_millis(2);
/// Heartbeats that wait to be sent to one peer.
pub(crate) const BEATS_QUEUED_MAX: usize = 256;
/// Heartbeats that were sent to one peer and not answered yet.
pub(crate) const BEATS_IN_FLIGHT_MAX: usize = 1024;
/// Heartbeats in one message, and answered at once by the other side.
pub(crate) const BEATS_PER_MESSAGE_MAX: usize = 128;
/// After a peer could not be reached it is left alone for this long.
pub(crate) const UNREACHABLE_PAUSE: Duration = Duration::from_millis(50);
/// Replication to an unreachable peer is tried again after this long at first, doubling.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Replication to an unreachable peer is tried again at least this often.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(400);
/// Opening a stream to a peer takes at most this long.
pub(crate) const STREAM_OPEN_MAX: Duration = Duration::from_millis(1_000);
/// A stream on which something is in flight and nothing came back for this long is given up (checked once in this time).
pub(crate) const STREAM_STALL_MAX: Duration = Duration::from_millis(1_000);
/// One frame of a checkpoint travels and is written within this time.
pub(crate) const CHECKPOINT_FRAME_MAX: Duration = Duration::from_secs(20);
/// A follower has this long to switch to a checkpoint that it received whole.
pub(crate) const CHECKPOINT_FINISH_MAX: Duration = Duration::from_secs(120);
/// Frames of a checkpoint on their way at once.
pub(crate) const CHECKPOINT_FRAMES_QUEUED_MAX: usize = 4;
/// A small question to a peer (hello, read index) is answered within this time.
pub(crate) const QUESTION_MAX: Duration = Duration::from_millis(1_000);
/// A change of the members that was forwarded is answered within this time.
pub(crate) const MEMBERS_CHANGE_MAX: Duration = Duration::from_secs(60);
/// Entries that were proposed to one shard and not answered yet.
pub(crate) const PROPOSALS_IN_FLIGHT_MAX: usize = 4096;
/// What a caller is told to wait when too much is in flight.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Reads that wait for a barrier of one shard.
pub(crate) const READS_WAITING_MAX: usize = 65_536;
/// Heartbeat messages that wait for the transport; when they are this many the peer does not read, and more are lost.
pub(crate) const BEAT_MESSAGES_QUEUED_MAX: usize = 64;
