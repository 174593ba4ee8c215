//! A data directory that must not be used again: it was found to have lost what its node had acknowledged, as when an older copy of it
//! was put back. A restart does not help, and the leader that found it out may be gone by then: so the directory itself says it.
//!
//! Invariants
//! - The file is written before the node tells that it failed, and never removed by the program.
//! - One that is damaged condemns as well.

use std::path::Path;

use bytes::Bytes;
use cairn_storage::fs::{Fs, read_file, write_file_atomically};

use crate::failed::StartError;
use crate::sealed_text;

/// The file's name in the data directory.
const FILE: &str = "condemned";
/// The first line. The number is the version of the format; persisted.
const HEADING: &str = "cairn-condemned 1";
/// The file is never longer, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Refuses a directory that is condemned.
///
/// # Errors
/// [`StartError::Condemned`]; [`StartError::Directory`] if that cannot be told.
pub(crate) async fn check(fs: &dyn Fs, dir: &Path) -> Result<(), StartError> {
    let path = dir.join(FILE);
    let failed = |error| StartError::Directory { dir: dir.to_owned(), error };
    if !fs.exists(&path).await.map_err(failed)? {
        return Ok(());
    }
    let bytes = read_file(fs, &path, FILE_BYTES_MAX).await.map_err(failed)?;
    let reason = sealed_text::open(&bytes).ok().and_then(|body| body.strip_prefix(HEADING)).unwrap_or("the file is damaged");
    Err(StartError::Condemned { path, reason: reason.trim().to_owned() })
}

/// Condemns a directory.
pub(crate) async fn condemn(fs: &dyn Fs, dir: &Path, reason: &str) {
    let text = sealed_text::seal(&format!("{HEADING}\n{reason}\n"));
    if let Err(error) = write_file_atomically(fs, &dir.join(FILE), Bytes::from(text)).await {
        tracing::error!(%error, reason, "the data directory must not be used again, and could not be marked so");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cairn_storage::fs::{MemoryFs, OpenMode};
    use futures::FutureExt;

    use super::*;

    const VERSION_ONE: &[u8] = b"cairn-condemned 1\nit forgot entry 7\nchecksum 770c5e1a\n";

    fn checked(fs: &MemoryFs) -> Result<(), StartError> {
        check(fs, Path::new("data")).now_or_never().expect("memory does not wait")
    }

    #[test]
    fn a_condemned_directory_is_refused_with_the_reason_and_so_is_one_with_a_damaged_mark() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("data")).now_or_never().expect("no wait").expect("made");
        checked(&fs).expect("nothing is said against it");
        condemn(&fs, Path::new("data"), "it forgot entry 7").now_or_never().expect("no wait");
        let written =
            read_file(&fs, &PathBuf::from("data").join(FILE), FILE_BYTES_MAX).now_or_never().expect("no wait").expect("read");
        assert_eq!(written, VERSION_ONE, "version one is read for ever");
        let refused = checked(&fs).expect_err("condemned");
        assert!(refused.to_string().contains("it forgot entry 7"), "{refused}");

        let file =
            fs.open(&PathBuf::from("data").join(FILE), OpenMode::ReadWrite).now_or_never().expect("no wait").expect("there");
        file.write_at(3, Bytes::from_static(b"cairn-condemned 1\nit forgot entry 7\nchecksum 770c5e1a\n"))
            .now_or_never()
            .expect("no wait")
            .expect("written");
        let refused = checked(&fs).expect_err("condemned all the same");
        assert!(refused.to_string().contains("damaged"), "{refused}");
    }
}
