//! The format: a log that version 1 wrote stays readable, and version 1 goes on writing it byte by byte.

use super::*;

/// Made by [`write_sample`]. A version that changes the format gets a fixture of its own and keeps this one.
fn fixture_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/log-v1")
}

const FILES: [&str; 3] = ["0000000001.segment", "0000000002.segment", "LAST"];

async fn write_sample() -> MemoryFs {
    let fs = MemoryFs::new();
    let running = start(&fs, small()).await;
    let (a, b) = (running.log.shard(A), running.log.shard(B));
    a.save_vote(Bytes::from_static(b"vote of A")).await.expect("vote");
    append(&a, entries(1, 0..6, 200)).await.expect("append");
    a.truncate_after(Some(3)).await.expect("truncate");
    append(&a, entries(2, 4..6, 300)).await.expect("append");
    a.save_committed(Some(id(2, 4)));
    append(&b, entries(1, 9..11, 500)).await.expect("append");
    a.purge(id(1, 1)).await.expect("purge");
    until("the next segment is ready", || running.log.shared.lock().spare.is_some()).await;
    append(&b, entries(1, 11..12, 900)).await.expect("append");
    running.log.copy_forward(A).await.expect("copy");
    running.shut_down().await;
    fs
}

#[tokio::test]
async fn version_1_reads_its_fixture() {
    let fs = MemoryFs::new();
    Fs::create_dir_all(&fs, Path::new(DIR)).await.expect("make folder");
    for name in FILES {
        let bytes = std::fs::read(fixture_dir().join(name)).expect("the fixture is checked in");
        let file = fs.open(&Path::new(DIR).join(name), OpenMode::Create).await.expect("open");
        file.write_at(0, bytes.into()).await.expect("write");
    }
    let (log, _writer, report) = open(&fs, small()).await.expect("open");
    assert!(report.closed && report.torn_tail.is_none());
    let a = content(&log, A).await.expect("read");
    assert_eq!(a.state.vote, Some(Bytes::from_static(b"vote of A")));
    assert_eq!((a.state.committed, a.state.purged, a.state.last), (Some(id(2, 4)), Some(id(1, 1)), Some(id(2, 5))));
    let mut expected = entries(1, 2..4, 200);
    expected.extend(entries(2, 4..6, 300));
    assert_eq!(a.entries, expected);
    let mut expected = entries(1, 9..11, 500);
    expected.extend(entries(1, 11..12, 900));
    assert_eq!(content(&log, B).await.expect("read").entries, expected);
}

#[tokio::test]
async fn version_1_writes_its_fixture_byte_by_byte() {
    let fs = write_sample().await;
    for name in FILES {
        let bytes = file_bytes(&fs, name).await;
        let path = fixture_dir().join(name);
        if std::env::var_os("CAIRN_WRITE_FIXTURES").is_some() {
            std::fs::create_dir_all(fixture_dir()).expect("make folder");
            std::fs::write(&path, &bytes).expect("write the fixture");
        }
        assert!(std::fs::read(&path).expect("the fixture is checked in") == bytes, "{name} is written differently");
    }
}
