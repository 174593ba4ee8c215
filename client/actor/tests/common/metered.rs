//! A way to a cluster on which what a client is sent is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_client::{Connecting, Connector, Io};
use tokio_util::io::InspectReader;

/// Connects as another connector does; clones count together.
#[derive(Clone)]
pub struct Metered {
    inner: Arc<dyn Connector>,
    bytes: Arc<AtomicU64>,
}

impl Metered {
    pub fn new(inner: impl Connector) -> Self {
        Self { inner: Arc::new(inner), bytes: Arc::default() }
    }

    /// How many bytes came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Connector for Metered {
    fn connect(&self, address: String) -> Connecting {
        let (connecting, bytes) = (self.inner.connect(address), self.bytes.clone());
        Box::pin(async move {
            let counted = InspectReader::new(connecting.await?, move |read: &[u8]| {
                bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
            });
            Ok(Box::new(counted) as Box<dyn Io>)
        })
    }
}
