//! Opening: lock, log, index, replay; a rebuild of the index where it can't be trusted.
//!
//! May import: telemetry, types.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::directory::Directory;
use super::engine::{self, Index, IndexError};
use super::error::{OpenError, StoreError};
use super::handle::Options;
use super::keys;
use super::log::{self, CommitLog, Opened};
use super::ops::{Group, OpsError};
use super::shared::{REBUILD_MARK, Shared};
use super::state::Tx;
use crate::telemetry::Telemetry;
use crate::types::LogPos;

pub(super) struct Recovered {
    pub shared: Arc<Shared>,
    pub log: Box<dyn CommitLog>,
    pub next_seq: u64,
    pub lock: File,
    pub replayed: u64,
    pub rebuilt: bool,
    pub log_bytes: u64,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Takes the store's lock; it lasts as long as the file is open.
fn lock(dir: &Path) -> Result<File, OpenError> {
    private_dir(dir).map_err(io(dir))?;
    let path = dir.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io(&path))?;
    let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    if taken.is_err() {
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        return Err(OpenError::Locked {
            path,
            pid: text.trim().parse().unwrap_or(0),
        });
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(io(&path))?;
    Ok(file)
}

/// Opens and brings the index up to the log's end. Blocking.
pub(super) fn open(options: Options, telemetry: Arc<Telemetry>) -> Result<Recovered, OpenError> {
    let dir = options.dir.clone();
    let lock = lock(&dir)?;
    let spool = super::spool::directory(&dir);
    private_dir(&spool).map_err(io(&spool))?;
    let mut store_id = [0; 16];
    SystemRandom::new()
        .fill(&mut store_id)
        .map_err(|_| OpenError::Foreign {
            path: dir.clone(),
            reason: "the system gives no random bytes".into(),
        })?;
    let opened = log::open_files(&dir, options.config.segment_bytes, store_id)?;
    if opened.report.torn_bytes > 0 {
        tracing::info!(
            bytes = opened.report.torn_bytes,
            "cut off a group that was not finished"
        );
    }
    if opened.report.damaged_bytes > 0 {
        tracing::error!(bytes = opened.report.damaged_bytes, "the log is damaged");
    }
    let mark = dir.join(REBUILD_MARK);
    let cache = options.config.cache_bytes;
    let trusted = if mark.exists() {
        Err("a check of it failed".to_owned())
    } else {
        engine::open_sled(&dir, cache)
            .map_err(|error| error.to_string())
            .and_then(|index| Ok((start(&*index, &opened)?, index)))
    };
    let mut rebuilt = false;
    let (shared, replayed) = match trusted {
        Ok((from, index)) => match replay(&options, &telemetry, index, &opened, from) {
            Err(ReplayError::Index(reason)) => {
                rebuilt = true;
                rebuild(&options, &telemetry, &opened, &reason)?
            }
            done => done.map_err(ReplayError::open)?,
        },
        Err(reason) => {
            rebuilt = opened.last_seq > 0;
            rebuild(&options, &telemetry, &opened, &reason)?
        }
    };
    if mark.exists() {
        std::fs::remove_file(&mark).map_err(io(&mark))?;
    }
    telemetry.store.replayed(replayed);
    let end = opened.end;
    shared.ring.start_at(end);
    Ok(Recovered {
        shared,
        log: opened.log,
        next_seq: opened.last_seq + 1,
        lock,
        replayed,
        rebuilt,
        log_bytes: opened.bytes,
    })
}

/// Where replay begins, or why the index can't be trusted.
fn start(index: &dyn Index, opened: &Opened) -> Result<LogPos, String> {
    match index.applied().map_err(|error| error.to_string())? {
        Some((at, seq)) if at <= opened.end && seq <= opened.last_seq => Ok(at),
        Some((at, _)) => Err(format!("it is at {at}, the log ends at {}", opened.end)),
        None if opened.last_seq == 0 => Ok(LogPos::default()),
        None => Err("it is empty beside a log that is not".into()),
    }
}

fn rebuild(
    options: &Options,
    telemetry: &Arc<Telemetry>,
    opened: &Opened,
    reason: &str,
) -> Result<(Arc<Shared>, u64), OpenError> {
    if opened.last_seq > 0 {
        telemetry.store.rebuilt(reason);
    }
    let index = engine::open_fresh_sled(&options.dir, options.config.cache_bytes)
        .map_err(|error| OpenError::Index(error.to_string()))?;
    replay(options, telemetry, index, opened, LogPos::default()).map_err(ReplayError::open)
}

enum ReplayError {
    /// The index failed: another one may do.
    Index(String),
    /// The log can't be read by this program.
    Log(String),
    Newer(u8),
}

impl ReplayError {
    fn open(self) -> OpenError {
        match self {
            Self::Index(reason) | Self::Log(reason) => OpenError::Index(reason),
            Self::Newer(found) => OpenError::Newer {
                path: "log".into(),
                found: u32::from(found),
                known: u32::from(super::ops::VERSION),
            },
        }
    }
}

fn replay(
    options: &Options,
    telemetry: &Arc<Telemetry>,
    index: Arc<dyn Index>,
    opened: &Opened,
    from: LogPos,
) -> Result<(Arc<Shared>, u64), ReplayError> {
    let directory = directory(&*index).map_err(|error| ReplayError::Index(error.to_string()))?;
    let shared = Arc::new(Shared::new(
        options.clone(),
        telemetry.clone(),
        index,
        opened.reader.clone(),
        opened.blobs.clone(),
        directory,
    ));
    let (mut frames, mut failed) = (0u64, None);
    let read = opened.reader.read_from(from, &mut |frame| {
        frames += 1;
        if frames.is_multiple_of(10_000) {
            tracing::info!(frames, at = %frame.end, end = %opened.end, "replaying the log");
        }
        failed = replay_frame(&shared, frame).err();
        failed.is_none()
    });
    let report = read.map_err(|error| ReplayError::Log(error.to_string()))?;
    if let Some(error) = failed {
        return Err(error);
    }
    if report.damaged_bytes > 0 || report.missing_groups > 0 {
        tracing::error!(
            bytes = report.damaged_bytes,
            groups = report.missing_groups,
            "the log is damaged: what these groups held is missing"
        );
    }
    Ok((shared, frames))
}

fn replay_frame(shared: &Arc<Shared>, frame: log::Frame) -> Result<(), ReplayError> {
    let group = Group::decode(&frame.ops).map_err(|error| match error {
        OpsError::Newer(version) => ReplayError::Newer(version),
        OpsError::Malformed => ReplayError::Log(format!("group {}: {error}", frame.seq)),
    })?;
    let mut tx = Tx::new(shared.clone(), group.at, true);
    for op in &group.ops {
        match tx.apply(op) {
            Ok(()) => {}
            Err(StoreError::Index(reason)) => return Err(ReplayError::Index(reason)),
            // Only where an earlier group is missing: the rest is still worth having.
            Err(error) => {
                tracing::error!(%error, group = frame.seq, "a change could not be replayed")
            }
        }
    }
    let places: HashMap<_, _> = frame.blobs.into_iter().collect();
    tx.finish(&places)
        .and_then(|batch| tx.publish(batch, frame.end, frame.seq))
        .map_err(|error| ReplayError::Index(error.to_string()))
}

fn directory(index: &dyn Index) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    let mut failed = Ok(());
    for kind in *b"DAL" {
        let scanned = index.scan(&[kind], None, &mut |_, value| {
            failed = match kind {
                b'D' => keys::decode(value).map(|d: super::LocalDomain| {
                    directory.domains.insert(d.domain.clone(), d);
                }),
                b'A' => keys::decode(value).map(|a| directory.put_account(a)),
                _ => keys::decode(value).map(|a| directory.put_alias(a)),
            };
            failed.is_ok()
        });
        scanned.map_err(|error: IndexError| StoreError::Index(error.to_string()))?;
        failed.clone()?;
    }
    Ok(directory)
}
