//! The index from the log: replay of what it lacks, or of everything into a fresh one; and what
//! must not go back when the log has lost what an older index still knows.
//!
//! May import: telemetry, types.

use std::collections::HashMap;
use std::sync::Arc;

use super::carry::carry;
use super::check;
use super::clock;
use super::damage;
use super::directory::Directory;
use super::engine::{Applied, Index, IndexError};
use super::error::{OpenError, StoreError};
use super::image::load;
use super::keys::{self, AccountMarks, GlobalMarks, MailboxRecord};
use super::log;
use super::mend::mend;
use super::ops::{Group, Op, OpsError};
use super::shared::{Ground, Shared};
use super::state::Tx;
use crate::types::{AccountId, LogPos, MailboxId, MailboxKey};

/// What a replay did and met.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub frames: u64,
    /// Groups were missing or bytes damaged on the way.
    pub damaged: bool,
    /// Facts that the log has lost and that must be in it before anything else: numbers that
    /// were given, and that something is missing.
    pub floors: Vec<Op>,
}

/// An index that served before the one that is built.
pub(super) struct Before {
    pub index: Arc<dyn Index>,
    /// It is of this log: what it has that the log has lost is true.
    pub fits: bool,
}

/// How far a part of a replay came.
#[derive(Default)]
struct Part {
    frames: u64,
    missing: u64,
    damaged_bytes: u64,
}

pub(super) enum ReplayError {
    /// The index failed: another one may do.
    Index(String),
    /// What the machine lacks, another index would lack too.
    Resource(String),
    /// The log can't be read by this program.
    Log(String),
    Newer(u8),
}

impl ReplayError {
    pub(super) fn open(self) -> OpenError {
        match self {
            Self::Index(reason) | Self::Log(reason) | Self::Resource(reason) => {
                OpenError::Index(reason)
            }
            Self::Newer(found) => OpenError::Newer {
                path: "log".into(),
                found: u32::from(found),
                known: u32::from(super::ops::VERSION),
            },
        }
    }

    pub(super) fn index(error: IndexError) -> Self {
        match error.is_resource() {
            true => Self::Resource(error.to_string()),
            false => Self::Index(error.to_string()),
        }
    }
}

impl From<ReplayError> for StoreError {
    fn from(error: ReplayError) -> Self {
        Self::Index(error.open().to_string())
    }
}

/// Everything into a fresh index, which then takes the place of the one before. What the log
/// has lost comes from that one.
pub(super) fn rebuild(
    ground: &Ground,
    reason: &str,
    before: Option<&Before>,
) -> Result<(Arc<Shared>, Replayed), ReplayError> {
    ground.telemetry.store.rebuilt(reason);
    let options = &ground.options;
    let failed = |error: StoreError| ReplayError::Index(error.to_string());
    let (shared, start) = load::begin(ground)?;
    let (mut from, mut after) = (start.at, start.seq);
    let place = before.and_then(|before| before.index.applied().ok().flatten());
    // One that is older than the image has nothing to say.
    let place = place.filter(|place| place.store == ground.store_id && place.seq > after);
    let mut all = Part::default();
    let mut floors = Vec::new();
    let mut complete = false;
    if let (Some(before), Some(place)) = (before, place.filter(|_| before.is_some_and(|b| b.fits)))
    {
        all = part(&shared, from, after, Some(place.seq))?;
        (from, after) = (place.at, place.seq);
        if all.missing > 0 {
            floors = needed(&shared, floors_of(&*before.index));
            let old = Shared::of_old(ground.clone(), before.index.clone());
            complete = carry(&old, &shared, place).map_err(failed)?;
            let directory = directory(&***shared.index.load()).map_err(failed)?;
            shared.directory.store(Arc::new(directory));
            tracing::error!(
                groups = all.missing,
                complete,
                "the log has lost groups: what the index of before has of them is kept"
            );
        }
    }
    let rest = part(&shared, from, after, None)?;
    // What is missing after it, no index has.
    complete &= rest.missing == 0;
    all.frames += rest.frames;
    all.missing += rest.missing;
    all.damaged_bytes += rest.damaged_bytes;
    if let Some(before) = before.filter(|before| !before.fits) {
        floors = needed(&shared, floors_of(&*before.index));
    }
    let replayed = finish(&shared, all, floors, complete)?;
    shared.note_damage(Some(mend(&shared).map_err(failed)?));
    shared
        .index
        .load()
        .checkpoint()
        .map_err(ReplayError::index)?;
    ground
        .engines
        .retire(&options.dir)
        .map_err(ReplayError::index)?;
    Ok((shared, replayed))
}

/// A fresh index beside the one that serves, from the newest image and the log after it, up to
/// about where that one is: smaller, since sled gives no room back.
pub(super) fn beside(
    ground: &Ground,
    go_on: &dyn Fn() -> bool,
) -> Result<Arc<Shared>, ReplayError> {
    /// Groups that may be left for the committer.
    const FEW: u64 = 256;
    let (fresh, mut at) = load::begin(ground)?;
    for _ in 0..16 {
        if !go_on() {
            return Err(ReplayError::Resource("the server stops".into()));
        }
        let done = part(&fresh, at.at, at.seq, None)?;
        if done.missing > 0 || done.damaged_bytes > 0 {
            return Err(ReplayError::Log("the log is damaged".into()));
        }
        at = stands(&fresh)?;
        let index = (**fresh.index.load()).clone();
        index.checkpoint().map_err(ReplayError::index)?;
        if done.frames <= FEW {
            break;
        }
    }
    Ok(fresh)
}

fn stands(shared: &Shared) -> Result<Applied, ReplayError> {
    let applied = shared.index.load().applied().map_err(ReplayError::index)?;
    applied.ok_or_else(|| ReplayError::Index("it is empty".into()))
}

/// The rest of the log into an index that was built `beside`, which then is the one on disk. For
/// the committer: nothing is written to the log meanwhile.
pub(super) fn take_over(fresh: &Arc<Shared>) -> Result<(), ReplayError> {
    let at = stands(fresh)?;
    let done = part(fresh, at.at, at.seq, None)?;
    if done.missing > 0 || done.damaged_bytes > 0 {
        return Err(ReplayError::Log("the log is damaged".into()));
    }
    let index = (**fresh.index.load()).clone();
    check::verify(&*index).map_err(|error| ReplayError::Index(error.to_string()))?;
    fresh.forget();
    index.checkpoint().map_err(ReplayError::index)?;
    fresh
        .engines
        .retire(&fresh.options.dir)
        .map_err(ReplayError::index)
}

/// What the log has after `from`, where the group `after` ends, and a check of what came out.
pub(super) fn replay(
    ground: &Ground,
    index: Arc<dyn Index>,
    from: LogPos,
    after: u64,
) -> Result<(Arc<Shared>, Replayed), ReplayError> {
    let directory = directory(&*index).map_err(|error| ReplayError::Index(error.to_string()))?;
    let shared = Arc::new(Shared::new(ground.clone(), index, directory));
    let all = part(&shared, from, after, None)?;
    let missing = all.missing > 0;
    let replayed = finish(&shared, all, Vec::new(), false)?;
    let failed = |error: StoreError| ReplayError::Index(error.to_string());
    let mended = missing.then(|| mend(&shared).map_err(failed)).transpose()?;
    shared.note_damage(mended);
    Ok((shared, replayed))
}

/// Replays up to the group `until` or the end.
fn part(
    shared: &Arc<Shared>,
    from: LogPos,
    after: u64,
    until: Option<u64>,
) -> Result<Part, ReplayError> {
    let mut done = Part::default();
    let (mut last, mut skipped, mut failed) = (after, 0, None);
    let limit = until.unwrap_or(u64::MAX);
    let read = shared.reader.read_from(from, Some(after), &mut |frame| {
        let seq = frame.seq;
        if seq > limit {
            return false;
        }
        done.missing += seq.saturating_sub(last + 1);
        last = seq;
        done.frames += 1;
        if done.frames.is_multiple_of(10_000) {
            tracing::info!(frames = done.frames, at = %frame.end, "replaying the log");
        }
        failed = replay_frame(shared, frame, &mut skipped).err();
        failed.is_none() && seq < limit
    });
    let report = read.map_err(|error| ReplayError::Log(error.to_string()))?;
    if let Some(error) = failed {
        return Err(error);
    }
    done.missing += until.map_or(0, |until| until.saturating_sub(last));
    done.damaged_bytes = report.damaged_bytes;
    if skipped > 0 {
        tracing::error!(
            changes = skipped,
            "changes that rest on what is missing could not be replayed"
        );
    }
    Ok(done)
}

/// Tells of what is missing, and checks what came out.
fn finish(
    shared: &Arc<Shared>,
    all: Part,
    mut floors: Vec<Op>,
    complete: bool,
) -> Result<Replayed, ReplayError> {
    let failed = |error: StoreError| ReplayError::Index(error.to_string());
    let damaged = all.damaged_bytes > 0 || all.missing > 0;
    if damaged {
        shared.telemetry.store.lost_groups(all.missing);
        tracing::error!(
            bytes = all.damaged_bytes,
            groups = all.missing,
            "the log is damaged: what these groups held is missing in it"
        );
    }
    let fact = damage::fact(shared, all.missing, complete, clock::now()).map_err(failed)?;
    floors.extend(fact);
    check::verify(&***shared.index.load()).map_err(failed)?;
    // Nothing that was there before is \Recent for those who come now.
    shared.forget();
    Ok(Replayed {
        frames: all.frames,
        damaged,
        floors,
    })
}

fn replay_frame(
    shared: &Arc<Shared>,
    frame: log::Frame,
    skipped: &mut u64,
) -> Result<(), ReplayError> {
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
                *skipped += 1;
                tracing::debug!(%error, group = frame.seq, "a change could not be replayed");
            }
        }
    }
    let places: HashMap<_, _> = frame.blobs.into_iter().collect();
    tx.finish(&places)
        .and_then(|batch| tx.publish(batch, frame.end, frame.seq))
        .map(|_| ())
        .map_err(|error| ReplayError::Index(error.to_string()))
}

pub(super) fn directory(index: &dyn Index) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    let text = |error: IndexError| StoreError::Index(error.to_string());
    for kind in *b"DALr" {
        let mut failed = Ok(());
        let scanned = index.scan(&[kind], None, &mut |key, value| {
            let whole = keys::join(key, value.to_vec(), &|key| index.get(key).map_err(text));
            failed = whole.and_then(|value| match kind {
                b'D' => keys::decode(&value).map(|d: super::LocalDomain| {
                    directory.domains.insert(d.domain.clone(), d);
                }),
                b'A' => keys::decode(&value).map(|a| directory.put_account(a)),
                b'r' => keys::decode(&value).map(|value: Vec<u8>| {
                    directory.put_record(key, Some(&value));
                }),
                _ => keys::decode(&value).map(|a| directory.put_alias(a)),
            });
            failed.is_ok()
        });
        scanned.map_err(text)?;
        failed?;
    }
    Ok(directory)
}

/// The numbers up to which an index has given any, as facts. What can't be read is left out.
pub(super) fn floors_of(index: &dyn Index) -> Vec<Op> {
    let mut floors = Vec::new();
    if let Ok(Some(raw)) = index.get(b"g")
        && let Ok(marks) = keys::decode::<GlobalMarks>(&raw)
    {
        floors.push(Op::GlobalFloor {
            next_account: marks.next_account,
            uid_validity: marks.uid_validity,
        });
    }
    let mut scan = |kind: u8, each: fn(&[u8], &[u8]) -> Option<Op>| {
        let scanned = index.scan(&[kind], None, &mut |key, value| {
            floors.extend(each(key, value));
            true
        });
        if let Err(error) = scanned {
            tracing::warn!(%error, "not all numbers of the old index could be read");
        }
    };
    scan(b'U', |key, value| {
        let marks: AccountMarks = keys::decode(value).ok()?;
        Some(Op::AccountFloor {
            account: AccountId(keys::tail(key)),
            next_mailbox: marks.next_mailbox,
            next_device: marks.next_device,
        })
    });
    scan(b'M', |key, value| {
        let record: MailboxRecord = keys::decode(value).ok()?;
        let account = key.get(1..)?.first_chunk()?;
        Some(Op::MailboxFloor {
            mailbox: MailboxKey {
                account: AccountId(u32::from_be_bytes(*account)),
                mailbox: MailboxId(keys::tail(key)),
            },
            uid_next: record.uid_next,
            highest_modseq: record.highest_modseq,
        })
    });
    floors
}

/// Those that raise anything of what came out of the log.
fn needed(shared: &Arc<Shared>, mut floors: Vec<Op>) -> Vec<Op> {
    let tx = Tx::new(shared.clone(), clock::now(), true);
    // What can't be told is written down.
    floors.retain(|floor| raises(&tx, floor).unwrap_or(true));
    floors
}

/// True where the fact would raise anything of what is there.
fn raises(tx: &Tx, floor: &Op) -> Result<bool, StoreError> {
    Ok(match floor {
        Op::GlobalFloor {
            next_account,
            uid_validity,
        } => {
            let marks = tx.global_marks()?;
            marks.next_account < *next_account || marks.uid_validity < *uid_validity
        }
        Op::AccountFloor {
            account,
            next_mailbox,
            next_device,
        } => {
            let marks = tx.account_marks(*account)?;
            let known = tx.directory.account(*account).is_some();
            known && (marks.next_mailbox < *next_mailbox || marks.next_device < *next_device)
        }
        Op::MailboxFloor {
            mailbox,
            uid_next,
            highest_modseq,
        } => {
            let record: Option<MailboxRecord> = tx.get(&keys::mailbox(b'M', *mailbox))?;
            record.is_some_and(|record| {
                record.uid_next < *uid_next || record.highest_modseq < *highest_modseq
            })
        }
        _ => false,
    })
}

/// Writes facts into the log as a group, and applies it. `next_seq` moves when the log has it.
/// What can't be applied is left out: the others are still worth having.
pub(super) fn raise(
    shared: &Arc<Shared>,
    log: &mut dyn log::CommitLog,
    next_seq: &mut u64,
    floors: &[Op],
) -> Result<(), StoreError> {
    let now = clock::now();
    let mut tx = Tx::new(shared.clone(), now, true);
    for floor in floors {
        match tx.fact(floor.clone()) {
            Ok(()) | Err(StoreError::NoMailbox) => {}
            Err(error) => tracing::error!(%error, ?floor, "a number may be given again"),
        }
    }
    if tx.ops.is_empty() {
        return Ok(());
    }
    let group = Group {
        at: now,
        ops: std::mem::take(&mut tx.ops),
    };
    let ops = group
        .encode()
        .map_err(|error| StoreError::Write(error.to_string()))?;
    let seq = *next_seq;
    let appended = match log.append(seq, &[], &ops) {
        Ok(appended) => appended,
        Err(error) => {
            log.recover()?;
            return Err(error.into());
        }
    };
    *next_seq += 1;
    let batch = tx.finish(&HashMap::new())?;
    tx.publish(batch, appended.end, seq)?;
    shared.note_damage(None);
    tracing::warn!(
        facts = group.ops.len(),
        "numbers that were given before the damage are not given again"
    );
    Ok(())
}

/// Removes files of large bodies that no record names: their groups never came about, or all
/// that referred to them is gone. False where the records can't be trusted.
pub(super) fn sweep(shared: &Shared) -> Result<bool, StoreError> {
    let files = shared.blobs.own_files()?;
    let mut named = check::Sums::default();
    let mut unnamed = Vec::new();
    for (id, place) in files {
        // One that can't be read is shown as damaged, if anything names it.
        let Some(id) = id else { continue };
        let key = keys::blob(id);
        match shared.raw(&key)? {
            Some(value) => {
                let record: keys::BlobRecord = keys::decode(&value)?;
                if record.place.segment == place.segment {
                    named.add_large(&key, &value);
                } else {
                    unnamed.push(place);
                }
            }
            None => unnamed.push(place),
        }
    }
    if unnamed.is_empty() {
        return Ok(true);
    }
    if !named.same_large(&check::stored(&***shared.index.load())?.unwrap_or_default()) {
        // A file is gone or unreadable, or a record is: only the latter is the index's fault.
        return Ok(false);
    }
    tracing::info!(files = unnamed.len(), "removing bodies that no message has");
    for place in &unnamed {
        shared.blobs.remove(place)?;
    }
    Ok(true)
}
