//! Opening: lock, log, index, replay; a rebuild of the index where it can't be trusted.
//!
//! May import: telemetry, types.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::ballast;
use super::disk::{Disk, RealDisk};
use super::engine::{Applied, Engines, Index, IndexError, Sled};
use super::error::OpenError;
use super::identity;
use super::image;
use super::image::files::ImageError;
use super::image::format::BadImage;
use super::log::{self, CommitLog, Known, Opened};
use super::options::Options;
use super::private;
use super::program;
use super::rebuild::{self, Before, ReplayError, Replayed};
use super::shared::{Ground, REBUILD_MARK, Shared};
use super::versions;
use crate::telemetry::Telemetry;
use crate::types::LogPos;

pub(super) struct Recovered {
    pub shared: Arc<Shared>,
    pub log: Box<dyn CommitLog>,
    pub next_seq: u64,
    /// Facts that could not be written into the log yet.
    pub floors: Vec<super::ops::Op>,
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

/// Its name is durable too, so that no power cut takes what was put into it.
fn private_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes the store's lock; it lasts as long as the file is open.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
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
    let pid = format!("{}\n", std::process::id());
    // Its block stays its own: on a full disk another could not be had.
    let written = file
        .rewind()
        .and_then(|()| file.write_all(pid.as_bytes()))
        .and_then(|()| file.set_len(pid.len() as u64));
    if let Err(error) = written {
        // It is only told to whoever finds the store locked.
        tracing::warn!(%error, "the lock file does not say who holds it");
    }
    Ok(file)
}

/// The process that has the store of a directory open.
pub(super) fn holder(dir: &Path) -> Option<OpenError> {
    let path = dir.join("lock");
    let mut file = File::open(&path).ok()?;
    let operation = rustix::fs::FlockOperation::NonBlockingLockShared;
    if rustix::fs::flock(&file, operation).is_ok() {
        return None;
    }
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    let pid = text.trim().parse().unwrap_or(0);
    Some(OpenError::Locked { path, pid })
}

/// Opens and brings the index up to the log's end. Blocking.
pub(super) fn open(options: Options, telemetry: Arc<Telemetry>) -> Result<Recovered, OpenError> {
    // Before anything is written: a store of a newer program stays as it is.
    private::check_owner(&options.dir)?;
    versions::look(&RealDisk, &options.dir)?;
    let lock = lock(&options.dir)?;
    super::backup::no_half(&options.dir)?;
    private::narrow(&options.dir)?;
    ballast::look(&RealDisk, &options.dir);
    versions::note(&RealDisk, &options.dir).map_err(io(&options.dir))?;
    let spool = super::spool::directory(&options.dir);
    private_dir(&spool).map_err(io(&spool))?;
    open_on(Arc::new(RealDisk), Arc::new(Sled), lock, options, telemetry)
}

/// The same on what is given; the caller has taken the lock.
pub(super) fn open_on(
    disk: Arc<dyn Disk>,
    engines: Arc<dyn Engines>,
    lock: File,
    options: Options,
    telemetry: Arc<Telemetry>,
) -> Result<Recovered, OpenError> {
    let dir = options.dir.clone();
    let known_id = identity::read(&*disk, &dir).map_err(io(&dir))?;
    let old = old_index(&*engines, &options)?;
    let index_at = old.applied.map(|a| (a.at, a.seq));
    let image = image_header(&*disk, &dir, known_id.or(old.applied.map(|a| a.store)))?;
    let image_at = image.map(|header| (header.at, header.seq));
    let mut opened = log::open_files(
        &disk,
        &dir,
        options.config.segment_bytes,
        Known {
            id: known_id,
            new_id: new_id(&dir)?,
            index_id: old.applied.map(|a| a.store),
            // Whichever knows more.
            acked: [index_at, image_at]
                .into_iter()
                .flatten()
                .max_by_key(|(_, seq)| *seq),
        },
    )?;
    if known_id.is_none() {
        identity::write(&*disk, &dir, opened.store_id).map_err(io(&dir))?;
    }
    tell(&opened, &telemetry);
    let ground = Ground {
        disk: disk.clone(),
        engines,
        options,
        telemetry: telemetry.clone(),
        store_id: opened.store_id,
        reader: opened.reader.clone(),
        blobs: opened.blobs.clone(),
    };
    let mark = dir.join(REBUILD_MARK);
    let asked = disk.open(&mark).is_ok();
    let same_store = old.applied.is_some_and(|a| a.store == opened.store_id);
    let before = old.index.clone().filter(|_| same_store);
    let before = before.map(|index| Before {
        index,
        fits: !opened.report.misfit,
    });
    if let Some(header) = image {
        telemetry.store.image_at(header.made);
    }
    let (shared, replayed, rebuilt) = bring_up(
        &ground,
        old,
        &opened,
        image.map(|header| header.seq),
        asked,
        before.as_ref(),
    )?;
    let mut floors = replayed.floors;
    if !rebuilt && opened.report.lost_groups > 0 {
        // The index has them, and the log has not: all are written.
        floors.extend(before.iter().flat_map(|b| rebuild::floors_of(&*b.index)));
    }
    drop(before);
    before_another_program(&shared, opened.last_seq)?;
    let mut next_seq = opened.last_seq + 1;
    match rebuild::raise(&shared, &mut *opened.log, &mut next_seq, &floors) {
        Ok(()) => floors.clear(),
        // The committer tries again, and takes no changes until then.
        Err(error) => {
            tracing::error!(%error, "numbers that were given could not be written down yet")
        }
    }
    if let Err(error) = shared.note_quarantine() {
        tracing::warn!(%error, "bodies that are damaged may not be known");
    }
    shared.forget();
    if asked {
        disk.remove(&mark).map_err(io(&mark))?;
    }
    let undamaged =
        !replayed.damaged && opened.report.damaged_bytes == 0 && opened.report.lost_groups == 0;
    if undamaged {
        match rebuild::sweep(&shared) {
            Ok(true) => {}
            // The committer rebuilds the index as soon as it runs; the next start tries again.
            Ok(false) if !rebuilt => shared.ask_for_rebuild(),
            Ok(false) => tracing::error!("files of large messages are missing or damaged"),
            Err(error) => tracing::warn!(%error, "bodies that no message has may remain"),
        }
    }
    telemetry.store.replayed(replayed.frames);
    telemetry.store.writable(true);
    shared.ring.start_at(opened.log.end());
    Ok(Recovered {
        shared,
        log: opened.log,
        next_seq,
        floors,
        lock,
        replayed: replayed.frames,
        rebuilt,
        log_bytes: opened.bytes,
    })
}

/// Where another program had the store until now, there is a state image of what it left.
fn before_another_program(shared: &Shared, last_seq: u64) -> Result<(), OpenError> {
    let (disk, dir) = (&*shared.disk, &shared.options.dir);
    if program::is_the_same(disk, dir) {
        return Ok(());
    }
    if last_seq > 0 {
        tracing::info!("another version of posthorn had this store: taking a state image first");
        // Where there is no room for one, the log is as good: nothing goes from it without one.
        if let Err(error) = image::take::take(shared, &|| true) {
            tracing::warn!(%error, "there is no state image from before this version");
        }
    }
    program::note(disk, dir).map_err(io(dir))
}

/// The index as it was found.
struct Old {
    index: Option<Arc<dyn Index>>,
    applied: Option<Applied>,
    /// Why it can't be used.
    reason: Option<String>,
}

/// What the machine lacks is an error; what is wrong with the index is a reason to rebuild it.
fn old_index(engines: &dyn Engines, options: &Options) -> Result<Old, OpenError> {
    let mut old = Old {
        index: None,
        applied: None,
        reason: None,
    };
    let opened = engines.open(&options.dir, options.config.cache_bytes);
    let read = opened.and_then(|index| {
        let applied = index.applied();
        old.index = Some(index);
        applied
    });
    match read {
        Ok(applied) => old.applied = applied,
        // What is not understood is not built anew: whoever wrote it may come back.
        Err(IndexError::Schema { found, known }) if found > known => {
            return Err(OpenError::Newer {
                path: options.dir.join("index"),
                found: u32::from(found),
                known: u32::from(known),
            });
        }
        Err(error) if error.is_resource() => {
            return Err(match error {
                IndexError::Io { path, source } => OpenError::Io { path, source },
                other => OpenError::Index(other.to_string()),
            });
        }
        Err(error) => old.reason = Some(error.to_string()),
    }
    Ok(old)
}

/// Of the newest state image that can be read. None: there is none yet.
fn image_header(
    disk: &dyn Disk,
    dir: &Path,
    store_id: Option<[u8; 16]>,
) -> Result<Option<image::format::Header>, OpenError> {
    image::files::newest_header(disk, dir, store_id).map_err(|error| match error {
        ImageError::Io { path, source } => OpenError::Io { path, source },
        ImageError::Bad {
            path,
            source: BadImage::Newer(found),
        } => OpenError::Newer {
            path,
            found,
            known: image::format::VERSION,
        },
        other => OpenError::Index(other.to_string()),
    })
}

fn new_id(dir: &Path) -> Result<[u8; 16], OpenError> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| OpenError::Foreign {
        path: dir.to_owned(),
        reason: "the system gives no random bytes".into(),
    })?;
    Ok(id)
}

fn tell(opened: &Opened, telemetry: &Telemetry) {
    let report = &opened.report;
    tracing::debug!(end = %opened.end, group = opened.last_seq, "the log is open");
    if report.torn_bytes > 0 {
        tracing::info!(
            bytes = report.torn_bytes,
            "cut off a group that was not finished"
        );
    }
    if report.damaged_bytes > 0 {
        tracing::error!(bytes = report.damaged_bytes, "the log is damaged");
    }
    if report.lost_groups > 0 {
        telemetry.store.lost_groups(report.lost_groups);
        tracing::error!(
            groups = report.lost_groups,
            "the log's last groups can't be read, though they were acknowledged: nothing is cut \
             off, and the index goes on with what it has of them"
        );
    }
}

/// The index at the log's end: as it is and replayed, or built anew.
fn bring_up(
    ground: &Ground,
    old: Old,
    opened: &Opened,
    image: Option<u64>,
    asked: bool,
    before: Option<&Before>,
) -> Result<(Arc<Shared>, Replayed, bool), OpenError> {
    let reason = match (old.index, old.reason, old.applied) {
        _ if asked => "a check of it failed".into(),
        (_, Some(reason), _) => reason,
        _ if opened.report.misfit => "it does not belong to this log".into(),
        // It had a checkpoint when the image was taken, so it has lost something since; and the
        // log before the image may be gone.
        (_, _, Some(applied)) if image.is_some_and(|seq| seq > applied.seq) => {
            "it is older than the state image".into()
        }
        (_, _, None) if image.is_some() => "it is empty beside a state image".into(),
        (Some(index), None, Some(applied)) => {
            match rebuild::replay(ground, index, applied.at, applied.seq) {
                Err(ReplayError::Index(reason)) => reason,
                done => {
                    let (shared, replayed) = done.map_err(ReplayError::open)?;
                    return Ok((shared, replayed, false));
                }
            }
        }
        // New, or left so by a crash in the middle of a rebuild.
        (Some(index), None, None) => {
            let rebuilt = opened.last_seq > 0;
            if rebuilt {
                let reason = "it is empty beside a log that is not";
                ground.telemetry.store.rebuilt(reason);
            }
            match rebuild::replay(ground, index, LogPos::default(), 0) {
                Err(ReplayError::Index(reason)) => reason,
                done => {
                    let (shared, replayed) = done.map_err(ReplayError::open)?;
                    return Ok((shared, replayed, rebuilt));
                }
            }
        }
        (None, None, _) => "it could not be opened".into(),
    };
    let (shared, replayed) =
        rebuild::rebuild(ground, &reason, before).map_err(ReplayError::open)?;
    Ok((shared, replayed, true))
}
