//! Every bound of the client that is not a setting.

use std::time::Duration;

/// Most requests in one message of the pipeline.
pub(crate) const PIPELINE_MESSAGE_REQUESTS_MAX: usize = 256;
const _: () = assert!(PIPELINE_MESSAGE_REQUESTS_MAX <= cairn_api::PIPELINE_MESSAGE_REQUESTS_MAX);
/// Gathering into one message of the pipeline stops at this size in bytes; one request alone may be larger.
pub(crate) const PIPELINE_MESSAGE_BYTES_TARGET: usize = 1024 * 1024;
/// What a request counts at least towards the bytes in flight: bounds their number too.
pub(crate) const IN_FLIGHT_REQUEST_BYTES_MIN: usize = 1024;
/// Requests without an answer on one pipeline before it is given up, as their callers gave up long ago.
pub(crate) const PIPELINE_WAITING_MAX: usize = 256 * 1024;
/// How often a pipeline looks for requests that wait too long for an answer.
pub(crate) const PIPELINE_WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A leader that has said nothing for so long is asked after at the other nodes: it may be gone without its connections having ended.
/// As long as an election takes about: asked earlier, they would know of no other one.
pub(crate) const SILENCE_DOUBTED: Duration = Duration::from_millis(300);
/// A first retry waits about this long, each further one twice as long, up to [`RETRY_DELAY_MAX`].
pub(crate) const RETRY_DELAY_MIN: Duration = Duration::from_millis(5);
/// See [`RETRY_DELAY_MIN`].
pub(crate) const RETRY_DELAY_MAX: Duration = Duration::from_millis(250);
/// As [`RETRY_DELAY_MAX`], while there is nobody to send to: a new leader is there within half a second, and looking is cheap.
pub(crate) const RETRY_DELAY_UNSENT_MAX: Duration = Duration::from_millis(40);
/// Rounds of questions who leads begin at least so far apart.
pub(crate) const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// A leader that is doubted is not asked after more often than this, by all callers together.
pub(crate) const DOUBT_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// How often a hint may be followed without waiting before retries slow down.
pub(crate) const HINTS_FOLLOWED_MAX: u32 = 2;
/// How long a node may take to answer a status request.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long other nodes are waited for once one has answered a status request.
pub(crate) const STATUS_GRACE: Duration = Duration::from_millis(50);
/// How long making a connection may take.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// HTTP/2 keep-alive: how often an unanswering peer is asked, and how long it may take.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// See [`KEEP_ALIVE_INTERVAL`].
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 window of one stream, in bytes: what a slow reader of one replay buffers.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// HTTP/2 window of one follow, in bytes.
pub(crate) const FOLLOW_WINDOW_BYTES: u32 = 128 * 1024;
/// HTTP/2 window of a connection, in bytes: readers that stand still must not stop the others.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024 * 1024;
/// Streams that a node takes on one connection.
const STREAMS_MAX: u32 = 1024;
const _: () = assert!(FOLLOW_WINDOW_BYTES * STREAMS_MAX <= CONNECTION_WINDOW_BYTES, "all follows may stand still");
/// Largest HTTP/2 frame that a server may send, in bytes: fewer system calls for a page of a replay, and not so large that the memory
/// which one is read into is new each time.
pub(crate) const FRAME_BYTES: u32 = 64 * 1024;
/// Claims tried against other claimants before giving up.
pub(crate) const CLAIM_TRIES_MAX: u32 = 16;
/// Journals in one page of a listing.
pub(crate) const LIST_PAGE_JOURNALS: u32 = 1_000;
/// Times an upload of a snapshot is begun anew because the server lost it.
pub(crate) const UPLOAD_TRIES_MAX: u32 = 8;
/// How long a node may say nothing to whoever follows.
pub(crate) const FOLLOW_SILENCE_MAX: Duration = cairn_api::FOLLOW_PROGRESS_INTERVAL.saturating_mul(3);
