//! The log on a real disk: what is written comes back, whatever happens to the files.

mod blobs;
mod damage;
mod unreadable;
mod writing;

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::disk::RealDisk;
use super::faulty::{Fault, Faults};
use super::frame::{FILE_HEADER, FRAME_HEADER, FRAME_MAGIC, FileHeader, FileKind};
use super::record::CHUNK;
use super::*;

const ID: [u8; 16] = *b"0123456789abcdef";
const START: LogPos = LogPos {
    segment: 0,
    offset: 0,
};

fn new(new_id: [u8; 16]) -> Known {
    Known {
        new_id,
        ..Known::default()
    }
}

/// On the machine's own disk.
fn open_files(
    dir: &std::path::Path,
    segment_bytes: u64,
    known: Known,
) -> Result<Opened, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    super::open_files(&disk, dir, segment_bytes, known)
}

struct Bench {
    dir: TempDir,
    segment_bytes: u64,
}

impl Bench {
    fn new(segment_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, segment_bytes }
    }
    fn open(&self) -> Opened {
        self.try_open().unwrap()
    }
    fn try_open(&self) -> Result<Opened, OpenError> {
        open_files(self.dir.path(), self.segment_bytes, new(ID))
    }
    /// As after a start whose index was there.
    fn open_acked(&self, at: LogPos, seq: u64) -> Opened {
        let known = Known {
            acked: Some((at, seq)),
            id: Some(ID),
            ..Known::default()
        };
        open_files(self.dir.path(), self.segment_bytes, known).unwrap()
    }
    fn faulty(&self, faults: Arc<Faults>) -> Opened {
        faulty::open_files(self.dir.path(), self.segment_bytes, new(ID), faults).unwrap()
    }
    fn segment(&self, number: u64) -> PathBuf {
        let name = files::name(FileKind::Segment, number);
        self.dir.path().join("log").join(name)
    }
    fn len(&self, number: u64) -> u64 {
        std::fs::metadata(self.segment(number)).unwrap().len()
    }
    fn flip(&self, number: u64, offset: u64) {
        let file = self.writable(number);
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    }
    fn writable(&self, number: u64) -> std::fs::File {
        let path = self.segment(number);
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }
}

fn body(seq: u64, len: usize) -> Vec<u8> {
    let mut state = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

fn blob(seq: u64, len: usize) -> BlobData {
    BlobData::compress(id(seq), &body(seq, len))
}

fn id(seq: u64) -> BlobId {
    BlobId(u128::from(seq).to_be_bytes())
}

fn add(log: &mut dyn CommitLog, seq: u64, len: usize) -> Result<Appended, LogError> {
    log.append(seq, &[&blob(seq, len)], format!("ops {seq}").as_bytes())
}

fn frames(opened: &Opened, from: LogPos) -> (Vec<Frame>, ReadReport) {
    let mut found = Vec::new();
    let report = opened
        .reader
        .read_from(from, None, &mut |frame| {
            found.push(frame);
            true
        })
        .unwrap();
    (found, report)
}

fn seqs(opened: &Opened) -> Vec<u64> {
    frames(opened, START).0.iter().map(|f| f.seq).collect()
}

/// Every frame that is there has its operations and its bodies.
fn check_content(opened: &Opened, len: usize) {
    for frame in frames(opened, START).0 {
        assert_eq!(frame.ops, format!("ops {}", frame.seq).into_bytes());
        for (blob_id, place) in frame.blobs {
            assert_eq!(blob_id, id(frame.seq));
            let raw = opened.blobs.get(&blob_id, &place, 0..u64::MAX).unwrap();
            assert_eq!(raw, body(frame.seq, len));
        }
    }
}
