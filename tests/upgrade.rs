//! A store that a newer program has written to: refused, and left as it is to the last byte.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use common::Server;

/// Name → mode, time of change, bytes.
type Listing = BTreeMap<PathBuf, (u32, i64, i64, u64, u32)>;

fn listing(dir: &Path, into: &mut Listing) {
    let found = std::fs::symlink_metadata(dir).unwrap();
    let sum = match found.is_file() {
        true => crc32fast::hash(&std::fs::read(dir).unwrap()),
        false => 0,
    };
    let facts = (
        found.mode(),
        found.mtime(),
        found.mtime_nsec(),
        found.len(),
        sum,
    );
    into.insert(dir.to_owned(), facts);
    if found.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            listing(&entry.unwrap().path(), into);
        }
    }
}

/// A store with mail in two segments, and an end that is not checkpointed.
fn store(home: &Path) -> PathBuf {
    let dir = home.join("data");
    for round in 0..2 {
        let server = Server::start(&dir, &[]);
        let mut smtp = server.smtp();
        for n in 0..5 {
            let text = format!("Subject: {round} {n}\r\n\r\nHi\r\n");
            let reply = smtp.deliver("c@example.org", &["alice@posthorn.test"], text.as_bytes());
            assert!(reply.unwrap().starts_with("250"));
        }
        drop(smtp);
        server.kill();
    }
    // What a start would put in order.
    std::fs::write(dir.join("index/snap.1.generating"), b"x").unwrap();
    std::fs::write(dir.join("log/seg-000000000077.tmp"), b"x").unwrap();
    dir
}

fn id(dir: &Path) -> [u8; 16] {
    let line = std::fs::read_to_string(dir.join("store-id")).unwrap();
    let hex = line.split(' ').nth(1).unwrap();
    u128::from_str_radix(hex, 16).unwrap().to_be_bytes()
}

/// The header of a segment as a later version may write it.
fn newer_header(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8..12].copy_from_slice(&2u32.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(path, bytes).unwrap();
}

fn seeded(half: &[u8], segment: u64, offset: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(half);
    hasher.update(&segment.to_be_bytes());
    hasher.update(&offset.to_be_bytes());
    hasher.update(rest);
    hasher.finalize()
}

/// One more frame behind the last one: as it is in our format, but for its version or that of
/// its operations.
fn add_frame(dir: &Path, frame_version: u16, operations: u8) {
    let (id, path) = (id(dir), dir.join("log/seg-000000000001"));
    let offset = std::fs::metadata(&path).unwrap().len();
    let ops = [operations, 1, 2, 3];
    let mut header = [0; 48];
    header[..8].copy_from_slice(&[0xf5, b'P', b'H', 0xff, b'F', b'R', 0x00, 0xfa]);
    header[8..10].copy_from_slice(&frame_version.to_be_bytes());
    header[24..32].copy_from_slice(&(ops.len() as u64).to_be_bytes());
    header[32..40].copy_from_slice(&9999u64.to_be_bytes());
    header[40..44].copy_from_slice(&seeded(&id[8..], 1, offset, &ops).to_be_bytes());
    let crc = seeded(&id[..8], 1, offset, &header[..44]);
    header[44..].copy_from_slice(&crc.to_be_bytes());
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[&header[..], &ops].concat(), offset)
        .unwrap();
}

fn newer_form(dir: &Path, form: &str) {
    let text = std::fs::read_to_string(dir.join("format")).unwrap();
    let mut lines = String::new();
    for line in text.lines().filter(|line| !line.starts_with("sum ")) {
        let (name, _) = line.split_once(' ').unwrap();
        let line = if name == form {
            format!("{name} 9")
        } else {
            line.to_owned()
        };
        lines.push_str(&format!("{line}\n"));
    }
    if !lines.contains(&format!("{form} ")) {
        lines.push_str(&format!("{form} 1\n"));
    }
    let sum = crc32fast::hash(lines.as_bytes());
    std::fs::write(dir.join("format"), format!("{lines}sum {sum:08x}\n")).unwrap();
}

fn newer_id(dir: &Path) {
    let text = format!("posthorn-store-2 {:032x} and more", 7);
    let sum = crc32fast::hash(text.as_bytes());
    std::fs::write(dir.join("store-id"), format!("{text} {sum:08x}\n")).unwrap();
}

#[test]
fn a_newer_store_is_refused_and_nothing_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let made = store(home.path());
    type Change = fn(&Path);
    let changes: [(&str, Change); 10] = [
        ("segment", |dir| {
            newer_header(&dir.join("log/seg-000000000001"))
        }),
        ("body's file", |dir| {
            let path = dir.join("log/blob-000000000055");
            std::fs::copy(dir.join("log/seg-000000000001"), &path).unwrap();
            newer_header(&path);
        }),
        ("older segment", |dir| {
            // The newest one has no frame; what is wrong lies before.
            newer_header(&dir.join("log/seg-000000000001"));
            std::fs::write(dir.join("log/seg-000000000002"), b"").unwrap();
        }),
        ("frame", |dir| add_frame(dir, 2, 1)),
        ("operations", |dir| add_frame(dir, 1, 9)),
        ("id", newer_id),
        ("index", |dir| newer_form(dir, "index")),
        ("form of operations", |dir| newer_form(dir, "operations")),
        ("image", |dir| newer_form(dir, "image")),
        ("unheard of", |dir| newer_form(dir, "quantum")),
    ];
    for (what, change) in changes {
        let dir = home.path().join(what).join("data");
        std::fs::create_dir(home.path().join(what)).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([&made, &dir])
            .status();
        assert!(copied.unwrap().success());
        change(&dir);
        let mut before = Listing::new();
        listing(&dir, &mut before);
        let refused = std::process::Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .args([
                "demo",
                "--port-base",
                &common::free_base().to_string(),
                "--dir",
            ])
            .arg(&dir)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{what}: {told}");
        let clear = [
            "written by a newer posthorn",
            "run that one",
            dir.to_str().unwrap(),
        ];
        assert!(
            clear.iter().all(|part| told.contains(part)),
            "{what}: {told}"
        );
        let mut after = Listing::new();
        listing(&dir, &mut after);
        assert_eq!(before, after, "{what}");
    }
    // And as it was it opens.
    let server = Server::start(&made, &[]);
    let mut imap = server.imap("alice@posthorn.test");
    let lines = imap.ok("SELECT INBOX");
    assert!(lines.iter().any(|line| line.text == "* 10 EXISTS"));
}
