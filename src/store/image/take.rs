//! Takes a state image of the index that serves, while it serves.
//!
//! May import: `capture`, `files`, `format`, `tally`, the store's shared state.
//!
//! | after | on disk | a crash then |
//! |---|---|---|
//! | the records are written and synced | `image-<group>.tmp` | it is removed at the next start |
//! | it was read back and adds up | the same | the same |
//! | the index has a checkpoint that is no older | the same | the same |
//! | rename, sync of the directory | `image-<group>` | it is the newest |
//! | the copy, in the same way | `image-<group>.copy` | |
//! | older ones are removed, but for one | | they are removed after the next |

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::capture::Ended;
use super::files::{self, COPY, Candidate, Image, ImageError, UNFINISHED};
use super::format::{BadImage, HEADER, Header, Writer};
use super::tally::Tally;
use crate::store::clock::now;
use crate::store::disk::DiskFile;
use crate::store::engine::{self, Index, IndexError};
use crate::store::shared::Shared;

/// Why there is no new image.
#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum TakeError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the index: {0}")]
    Ended(#[from] Ended),
    #[error("the index does not add up ({0}); it is built anew from the log")]
    Wrong(String),
    #[error("the server stops")]
    Stopped,
}

impl From<IndexError> for TakeError {
    fn from(error: IndexError) -> Self {
        Self::Ended(Ended::Index(error))
    }
}

/// An image that was taken, or was there already.
pub(in crate::store) struct Taken {
    pub header: Header,
    /// Of one file.
    pub bytes: u64,
    pub tally: Tally,
    pub took: Duration,
}

/// What is done with each record.
pub(in crate::store) type EachRecord<'a> =
    &'a mut dyn FnMut(&Header, &[u8], &[u8]) -> Result<(), TakeError>;

/// What it is of, what it adds up to, and the index that was read.
pub(in crate::store) type Surveyed = (Header, Tally, Arc<dyn Index>);

/// Reads all of the index as it is at one group; what it adds up to.
pub(in crate::store) fn survey(
    shared: &Shared,
    each: EachRecord<'_>,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Surveyed>, TakeError> {
    let index = (**shared.index.load()).clone();
    let limit = shared.options.config.image_memory_bytes;
    let Some(at) = shared.capture.begin(index.clone(), limit)? else {
        shared.capture.end();
        return Ok(None);
    };
    let header = Header {
        schema: engine::SCHEMA,
        store_id: shared.store_id,
        at: at.at,
        seq: at.seq,
        made: now(),
    };
    let mut tally = Tally::default();
    let done = loop {
        let started = Instant::now();
        let piece = match shared.capture.piece() {
            Ok(piece) => piece,
            Err(ended) => break Err(ended.into()),
        };
        let wrote = piece.records.iter().try_for_each(|(key, value)| {
            tally.add(key, value);
            each(&header, key, value)
        });
        match wrote {
            Err(error) => break Err(error),
            Ok(()) if piece.last => break Ok(()),
            Ok(()) if !go_on() => break Err(TakeError::Stopped),
            Ok(()) => {}
        }
        // Half of one processor at most, unless what changes meanwhile piles up.
        if piece.pressure < 50 {
            std::thread::sleep(started.elapsed().min(Duration::from_millis(20)));
        }
    };
    shared.capture.end();
    done.map(|()| Some((header, tally, index)))
}

/// Writes and keeps an image of what is applied now. None: there is nothing yet.
pub(in crate::store) fn take(
    shared: &Shared,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Taken>, TakeError> {
    let started = Instant::now();
    let (disk, data) = (&*shared.disk, &shared.options.dir);
    let dir = files::directory(data);
    disk.create_dir(&dir).map_err(ImageError::io(&dir))?;
    remove_unfinished(shared, &dir);
    let unfinished = dir.join(format!("{}{UNFINISHED}", files::name(0)));
    let written = write(shared, &unfinished, go_on);
    let (header, bytes, tally, index) = match written {
        Ok(Some(written)) => written,
        other => {
            let _ = disk.remove(&unfinished);
            return other.map(|_| None);
        }
    };
    let complaints = tally.complaints(shared.damage.lost_groups() > 0);
    let kept = keep(shared, &unfinished, &header, &complaints, &*index);
    if let Err(error) = kept {
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    remove_old(shared, header.seq);
    let took = started.elapsed();
    shared.telemetry.store.image_taken(bytes, header.made, took);
    Ok(Some(Taken {
        header,
        bytes,
        tally,
        took,
    }))
}

type Written = (Header, u64, Tally, Arc<dyn Index>);

fn write(
    shared: &Shared,
    path: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<Option<Written>, TakeError> {
    let io = || ImageError::io(path);
    let file = shared.disk.create_new(path).map_err(io())?;
    let mut at = HEADER as u64;
    let mut writer = None;
    let mut put = |file: &dyn DiskFile, bytes: &[u8]| -> Result<(), TakeError> {
        file.write_all_at(bytes, at).map_err(io())?;
        at += bytes.len() as u64;
        Ok(())
    };
    let bad = |source: BadImage| {
        TakeError::Image(ImageError::Bad {
            path: path.to_owned(),
            source,
        })
    };
    let surveyed = survey(
        shared,
        &mut |header, key, value| {
            let writer = writer.get_or_insert_with(|| Writer::new(*header));
            match writer.push(key, value).map_err(bad)? {
                Some(block) => put(&*file, &block),
                None => Ok(()),
            }
        },
        go_on,
    )?;
    let Some((header, tally, index)) = surveyed else {
        return Ok(None);
    };
    let writer = writer.unwrap_or_else(|| Writer::new(header));
    let (rest, _) = writer.finish().map_err(bad)?;
    put(&*file, &rest)?;
    file.write_all_at(&header.encode(), 0).map_err(io())?;
    file.sync_all().map_err(io())?;
    Ok(Some((header, at, tally, index)))
}

/// Makes it count, if it is whole and what it holds adds up.
fn keep(
    shared: &Shared,
    unfinished: &Path,
    header: &Header,
    complaints: &[String],
    index: &dyn Index,
) -> Result<(), TakeError> {
    let disk = &*shared.disk;
    let dir = files::directory(&shared.options.dir);
    if let Some(first) = complaints.first() {
        let more = complaints.len() - 1;
        let what = match more {
            0 => first.clone(),
            more => format!("{first} and {more} more"),
        };
        shared.telemetry.store.index_doubted(&what);
        shared.ask_for_rebuild();
        return Err(TakeError::Wrong(what));
    }
    Image::open(disk, unfinished)?.check()?;
    // From now on an index that is older than the image is known to have lost something.
    index.checkpoint()?;
    let path = dir.join(files::name(header.seq));
    let copy = dir.join(format!("{}{COPY}", files::name(header.seq)));
    let io = || ImageError::io(&path);
    disk.rename(unfinished, &path).map_err(io())?;
    disk.sync_dir(&dir).map_err(io())?;
    if let Err(error) = duplicate(shared, &path, unfinished, &copy) {
        // The image itself is good.
        tracing::warn!(%error, "no second copy of the state image could be made");
        let _ = disk.remove(unfinished);
    }
    Ok(())
}

fn duplicate(
    shared: &Shared,
    path: &Path,
    unfinished: &Path,
    copy: &Path,
) -> Result<(), ImageError> {
    const PIECE: u64 = 1024 * 1024;
    let disk = &*shared.disk;
    let from = disk.open(path).map_err(ImageError::io(path))?;
    let len = from.len().map_err(ImageError::io(path))?;
    let io = || ImageError::io(copy);
    let to = disk.create_new(unfinished).map_err(io())?;
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < len {
        buffer.resize((len - at).min(PIECE) as usize, 0);
        from.read_exact_at(&mut buffer, at)
            .map_err(ImageError::io(path))?;
        to.write_all_at(&buffer, at).map_err(io())?;
        at += buffer.len() as u64;
    }
    to.sync_all().map_err(io())?;
    disk.rename(unfinished, copy).map_err(io())?;
    disk.sync_dir(&files::directory(&shared.options.dir))
        .map_err(io())
}

/// Of those before `seq` the newest stays, once. While somebody copies files all stay.
fn remove_old(shared: &Shared, seq: u64) {
    remove(shared, seq, true);
}

/// None of those before `seq` stays.
pub(in crate::store) fn remove_before(shared: &Shared, seq: u64) {
    remove(shared, seq, false);
}

fn remove(shared: &Shared, seq: u64, keep_one: bool) {
    let disk = &*shared.disk;
    let held = shared.files_held.lock();
    if *held > 0 {
        return;
    }
    let listed = match files::list(disk, &shared.options.dir) {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "old state images may remain");
            return;
        }
    };
    let mut before = None;
    for Candidate {
        path, seq: other, ..
    } in listed.iter().filter(|c| c.seq < seq)
    {
        let whole = || {
            Image::open(disk, path)
                .and_then(|image| image.check())
                .is_ok()
        };
        if keep_one && before.is_none() && whole() {
            before = Some(*other);
            continue;
        }
        if let Err(error) = disk.remove(path) {
            tracing::warn!(%error, path = %path.display(), "an old state image could not be removed");
        }
    }
}

fn remove_unfinished(shared: &Shared, dir: &Path) {
    for file in shared.disk.list(dir).unwrap_or_default() {
        let name = file.name.to_string_lossy();
        if name.ends_with(UNFINISHED) {
            let _ = shared.disk.remove(&dir.join(&*name));
        }
    }
}
