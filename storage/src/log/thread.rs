//! The log's threads in production: one writes and syncs, one makes segments ready and takes them away.

use std::io;
use std::thread::{Builder, JoinHandle};

use super::writer::LogWriter;

/// Runs the writer on a thread of its own, and the preparer on another, until the log stops or breaks; join the handle after
/// [`super::Log::shutdown`].
///
/// # Errors
/// If the operating system gives no thread or no runtime.
pub fn spawn_log_thread(writer: LogWriter) -> io::Result<JoinHandle<()>> {
    let (writing, preparing) = writer.split();
    let preparing = spawn("log-segments", preparing.run())?;
    spawn("log", async move {
        writing.run().await;
        // The preparer ends with the log; what made it panic has been said on its own thread.
        drop(preparing.join());
    })
}

fn spawn(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))
}
