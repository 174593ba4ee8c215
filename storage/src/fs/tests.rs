use std::path::Path;

use super::*;

async fn disks() -> (tempfile::TempDir, Vec<Arc<dyn Fs>>) {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let memory = MemoryFs::new();
    memory.create_dir_all(dir.path()).await.expect("make folder");
    (dir, vec![Arc::new(OsFs::inline()), Arc::new(memory)])
}

#[tokio::test]
async fn files_read_back_what_was_written_and_end_where_they_end() {
    let (dir, disks) = disks().await;
    for fs in disks {
        let file = fs.open(&dir.path().join("a"), OpenMode::CreateNew).await.expect("open");
        file.write_at(5000, Bytes::from_static(b"hello")).await.expect("write");
        assert_eq!(file.len().await.expect("len"), 5005);
        assert_eq!(file.read_at(4998, 100).await.expect("read"), &b"\0\0hello"[..]);
        assert_eq!(file.read_at(9000, 10).await.expect("read"), &b""[..]);
        file.set_len(5002).await.expect("cut");
        file.set_len(5004).await.expect("grow");
        assert_eq!(file.read_at(5000, 9).await.expect("read"), &b"he\0\0"[..]);
    }
}

#[tokio::test]
async fn names_are_listed_in_order_renamed_and_removed() {
    let (dir, disks) = disks().await;
    for fs in disks {
        let at = |name: &str| dir.path().join(name);
        for name in ["b", "c", "a"] {
            fs.open(&at(name), OpenMode::Create).await.expect("open");
        }
        fs.rename(&at("b"), &at("d")).await.expect("rename");
        fs.remove(&at("c")).await.expect("remove");
        fs.sync_dir(dir.path()).await.expect("sync");
        assert_eq!(fs.list(dir.path()).await.expect("list"), ["a", "d"]);
        assert!(!fs.exists(&at("c")).await.expect("exists"));
        let missing = fs.open(&at("c"), OpenMode::ReadWrite).await.expect_err("it is gone");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("open") && missing.to_string().contains("c"), "{missing}");
        assert!(fs.open(&at("a"), OpenMode::CreateNew).await.is_err());
        fs.remove(&at("a")).await.expect("remove");
        fs.remove(&at("d")).await.expect("remove");
    }
}

#[tokio::test]
async fn a_folder_is_held_by_one_and_freed_by_dropping() {
    let (dir, disks) = disks().await;
    for fs in disks {
        let held = fs.lock_dir(dir.path()).await.expect("lock");
        let refused = fs.lock_dir(dir.path()).await.expect_err("held");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
        drop(held);
        fs.lock_dir(dir.path()).await.expect("free again");
    }
}

#[tokio::test]
async fn a_file_is_replaced_whole() {
    let (dir, disks) = disks().await;
    for fs in disks {
        let path = dir.path().join("identity");
        for text in ["a long first text", "short"] {
            write_file_atomically(&*fs, &path, Bytes::from(text)).await.expect("write");
            assert_eq!(read_file(&*fs, &path, 100).await.expect("read"), text.as_bytes());
        }
        assert!(read_file(&*fs, &path, 4).await.is_err());
        assert!(fs.free_bytes(dir.path()).await.expect("space").available > 0);
    }
}

#[tokio::test]
async fn files_work_through_threads() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let threads = crate::blocking::ThreadBlocking::start("fs-test", 1).expect("threads");
    let fs = OsFs::through(Arc::new(threads));
    let path = dir.path().join("a");
    write_file_atomically(&fs, &path, Bytes::from_static(b"x")).await.expect("write");
    assert_eq!(read_file(&fs, &path, 1).await.expect("read"), &b"x"[..]);
    assert!(fs.open(Path::new("/nowhere/at/all"), OpenMode::Read).await.is_err());
}

#[tokio::test]
async fn a_crash_in_memory_keeps_what_was_synced_and_chooses_the_rest() {
    for keep in [false, true] {
        let fs = MemoryFs::new();
        let dir = Path::new("/disk");
        make_dir(&fs, dir).await.expect("make folder");
        let file = fs.open(&dir.join("a"), OpenMode::Create).await.expect("open");
        file.write_at(0, Bytes::from_static(b"synced")).await.expect("write");
        file.sync_data().await.expect("sync");
        fs.sync_dir(dir).await.expect("sync");
        file.write_at(0, Bytes::from_static(b"maybe!!")).await.expect("write");
        fs.open(&dir.join("b"), OpenMode::Create).await.expect("open");
        fs.crash(|| keep);
        file.write_at(0, Bytes::from_static(b"lost")).await.expect("write");
        assert_eq!(fs.list(dir).await.expect("list"), ["a"]);
        let after = read_file(&fs, &dir.join("a"), 100).await.expect("read");
        assert_eq!(after, if keep { &b"maybe!!"[..] } else { &b"synced"[..] });
    }
}

#[tokio::test]
async fn a_folder_survives_a_crash_once_those_above_it_are_synced() {
    let (fs, dir) = (MemoryFs::new(), Path::new("/disk/one/two"));
    let write = async |fs: &MemoryFs| write_file_atomically(fs, &dir.join("a"), Bytes::from_static(b"x")).await.expect("write");
    fs.create_dir_all(dir).await.expect("make folder");
    write(&fs).await;
    fs.crash(|| true);
    assert!(!fs.exists(Path::new("/disk")).await.expect("exists") && !fs.exists(&dir.join("a")).await.expect("exists"));
    make_dir(&fs, dir).await.expect("make folder");
    write(&fs).await;
    fs.crash(|| false);
    assert!(fs.exists(&dir.join("a")).await.expect("exists"));
    let (_dir, disks) = disks().await;
    for fs in disks {
        let inside = _dir.path().join("one/two");
        for _ in 0..2 {
            make_dir(&*fs, &inside).await.expect("make folder");
        }
        assert!(fs.exists(&inside).await.expect("exists"));
    }
}

#[tokio::test]
async fn a_folder_whose_making_was_interrupted_survives_a_crash_once_it_is_made_again() {
    let dir = Path::new("/disk/one/two");
    for syncs in 0..3 {
        let fs = MemoryFs::new();
        fs.fail_sync_after(syncs);
        make_dir(&fs, dir).await.expect_err("is interrupted");
        make_dir(&fs, dir).await.expect("make folder");
        fs.crash(|| false);
        assert!(fs.exists(dir).await.expect("exists"), "{syncs} syncs");
    }
}

#[tokio::test]
async fn what_a_failed_sync_did_not_write_no_later_sync_does() {
    for again in [false, true] {
        let fs = MemoryFs::new();
        let file = fs.open(Path::new("/a"), OpenMode::Create).await.expect("open");
        file.write_at(0, Bytes::from_static(b"old")).await.expect("write");
        file.sync_data().await.expect("sync");
        fs.sync_dir(Path::new("/")).await.expect("sync");
        file.write_at(0, Bytes::from_static(b"new")).await.expect("write");
        fs.fail_sync_after(0);
        file.sync_data().await.expect_err("fails");
        if again {
            file.write_at(0, Bytes::from_static(b"new")).await.expect("write");
        }
        file.sync_data().await.expect("as disks do");
        assert_eq!(file.read_at(0, 3).await.expect("read"), &b"new"[..]);
        fs.crash(|| false);
        let after = read_file(&fs, Path::new("/a"), 100).await.expect("read");
        assert_eq!(after, if again { &b"new"[..] } else { &b"old"[..] });
    }
}

#[tokio::test]
async fn an_injected_failure_comes_once() {
    let fs = MemoryFs::new();
    let file = fs.open(Path::new("/a"), OpenMode::Create).await.expect("open");
    fs.fail_sync_after(1);
    file.sync_data().await.expect("one more succeeds");
    file.sync_data().await.expect_err("this one fails");
    file.sync_data().await.expect("as disks do");
    fs.fail_write_after(0);
    file.write_at(0, Bytes::from_static(b"x")).await.expect_err("fails");
}

#[tokio::test]
async fn a_full_disk_takes_what_is_in_place_and_gives_back_what_is_removed() {
    let fs = MemoryFs::new();
    let file = fs.open(Path::new("/a"), OpenMode::Create).await.expect("open");
    file.write_at(0, Bytes::from_static(b"12345678")).await.expect("write");
    fs.limit_growth(Some(4));
    let full = file.write_at(4, Bytes::from_static(b"123456789")).await.expect_err("five bytes more");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(4, Bytes::from_static(b"12345678")).await.expect("four bytes more");
    assert_eq!(fs.free_bytes(Path::new("/")).await.expect("space").available, 0);
    fs.remove(Path::new("/a")).await.expect("remove");
    assert_eq!(fs.free_bytes(Path::new("/")).await.expect("space").available, 12);
}
