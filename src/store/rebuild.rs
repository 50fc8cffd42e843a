//! The index from the log: replay of what it lacks, or of everything into a fresh one; and what
//! must not go back when the log has lost what an older index still knows.
//!
//! May import: telemetry, types.

use std::collections::HashMap;
use std::sync::Arc;

use super::check;
use super::directory::Directory;
use super::engine::{self, Index, IndexError};
use super::error::{OpenError, StoreError};
use super::keys::{self, AccountMarks, GlobalMarks, MailboxRecord};
use super::log::{self, LogError};
use super::ops::{Group, Op, OpsError};
use super::shared::{Ground, Shared};
use super::state::Tx;
use crate::types::{AccountId, LogPos, MailboxId, MailboxKey, UnixMillis};

/// What a replay did and met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Replayed {
    pub frames: u64,
    /// Groups were missing or bytes damaged on the way.
    pub damaged: bool,
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

/// Everything into a fresh index. The one before is moved aside.
pub(super) fn rebuild(
    ground: &Ground,
    reason: &str,
) -> Result<(Arc<Shared>, Replayed), ReplayError> {
    ground.telemetry.store.rebuilt(reason);
    let options = &ground.options;
    let index = engine::open_fresh_sled(&options.dir, options.config.cache_bytes)
        .map_err(ReplayError::index)?;
    replay(ground, index, LogPos::default(), Some(0))
}

/// What the log has after `from`, where the group `after` ends, and a check of what came out.
pub(super) fn replay(
    ground: &Ground,
    index: Arc<dyn Index>,
    from: LogPos,
    after: Option<u64>,
) -> Result<(Arc<Shared>, Replayed), ReplayError> {
    let directory = directory(&*index).map_err(|error| ReplayError::Index(error.to_string()))?;
    let shared = Arc::new(Shared::new(ground.clone(), index, directory));
    let (mut frames, mut failed) = (0u64, None);
    let read = ground.reader.read_from(from, after, &mut |frame| {
        frames += 1;
        if frames.is_multiple_of(10_000) {
            tracing::info!(frames, at = %frame.end, "replaying the log");
        }
        failed = replay_frame(&shared, frame).err();
        failed.is_none()
    });
    let report = read.map_err(|error| ReplayError::Log(error.to_string()))?;
    if let Some(error) = failed {
        return Err(error);
    }
    let damaged = report.damaged_bytes > 0 || report.missing_groups > 0;
    if damaged {
        ground.telemetry.store.lost_groups(report.missing_groups);
        tracing::error!(
            bytes = report.damaged_bytes,
            groups = report.missing_groups,
            "the log is damaged: what these groups held is missing"
        );
    }
    check::verify(&***shared.index.load())
        .map_err(|error| ReplayError::Index(error.to_string()))?;
    // Nothing that was there before is \Recent for those who come now.
    shared.forget();
    Ok((shared, Replayed { frames, damaged }))
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
        .map(|_| ())
        .map_err(|error| ReplayError::Index(error.to_string()))
}

fn directory(index: &dyn Index) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    let text = |error: IndexError| StoreError::Index(error.to_string());
    for kind in *b"DAL" {
        let mut failed = Ok(());
        let scanned = index.scan(&[kind], None, &mut |key, value| {
            let whole = keys::join(key, value.to_vec(), &|key| index.get(key).map_err(text));
            failed = whole.and_then(|value| match kind {
                b'D' => keys::decode(&value).map(|d: super::LocalDomain| {
                    directory.domains.insert(d.domain.clone(), d);
                }),
                b'A' => keys::decode(&value).map(|a| directory.put_account(a)),
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
pub(super) fn floors(index: &dyn Index) -> Vec<Op> {
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

/// True where the fact would raise anything of what is there.
fn raises(tx: &mut Tx, floor: &Op) -> Result<bool, StoreError> {
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
        } => match tx.mailbox(*mailbox) {
            Ok(work) => {
                let record = work.snapshot.record;
                record.uid_next < *uid_next || record.highest_modseq < *highest_modseq
            }
            Err(StoreError::NoMailbox) => false,
            Err(error) => return Err(error),
        },
        _ => false,
    })
}

/// Writes the floors into the log as a group, and applies it: those that raise anything, or
/// (where the index has them and the log has lost them) all. Gives the number of the last group.
pub(super) fn raise(
    shared: &Arc<Shared>,
    log: &mut dyn log::CommitLog,
    last_seq: u64,
    floors: Vec<Op>,
    all: bool,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let mut tx = Tx::new(shared.clone(), now, true);
    for floor in floors {
        if raises(&mut tx, &floor)? || all {
            match tx.fact(floor) {
                Ok(()) | Err(StoreError::NoMailbox) => {}
                Err(error) => return Err(error),
            }
        }
    }
    if tx.ops.is_empty() {
        return Ok(last_seq);
    }
    let group = Group {
        at: now,
        ops: std::mem::take(&mut tx.ops),
    };
    let write = |error: LogError| StoreError::Write(error.to_string());
    let ops = group
        .encode()
        .map_err(|error| StoreError::Write(error.to_string()))?;
    let seq = last_seq + 1;
    let appended = match log.append(seq, &[], &ops) {
        Ok(appended) => appended,
        Err(error) => {
            log.recover().map_err(write)?;
            return Err(write(error));
        }
    };
    let batch = tx.finish(&HashMap::new())?;
    tx.publish(batch, appended.end, seq)?;
    shared.forget();
    tracing::warn!(
        facts = group.ops.len(),
        "numbers that were given before the damage are not given again"
    );
    Ok(seq)
}

/// Removes files of large bodies that no record names: their groups never came about, or all
/// that referred to them is gone. False where the records can't be trusted.
pub(super) fn sweep(shared: &Shared) -> Result<bool, StoreError> {
    let write = |error: LogError| StoreError::Write(error.to_string());
    let files = shared.blobs.own_files().map_err(write)?;
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
    if !named.same_large(&check::stored(&***shared.index.load())?) {
        // A file is gone or unreadable, or a record is: only the latter is the index's fault.
        return Ok(false);
    }
    tracing::info!(files = unnamed.len(), "removing bodies that no message has");
    for place in &unnamed {
        shared.blobs.remove(place).map_err(write)?;
    }
    Ok(true)
}
