//! Looks at the whole store: whether the index adds up, whether images and log can be read, and
//! (deep) whether every body that a message has is what was written. The same work is done once
//! after each start without bodies, and for bodies every night at a bounded rate.
//!
//! May import: the rest of the store, telemetry, types.
//!
//! An index that does not add up is built anew. A body that is damaged is quarantined: it is
//! remembered over restarts until it can be read again or its messages are gone, its segment is
//! not compacted, and clients are told. Nothing is removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::asks::Asks;
use super::error::StoreError;
use super::image::files::{self, Image};
use super::image::tally::{Live, Tally};
use super::image::{capture, take};
use super::keys::{self, BlobRecord};
use super::log::{BlobPlace, LogError, has_own_file};
use super::quarantine::Damaged;
use super::shared::Shared;
use crate::types::{AccountId, BlobId, MailboxId, MailboxKey, UnixMillis};

/// Damaged messages that a report names; the others are counted.
const NAMED: usize = 1000;

/// How long a check waits for an image that is being taken.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Nothing is wrong.
    pub ok: bool,
    /// Bodies were read.
    pub deep: bool,
    /// The group whose state was looked at.
    pub group: u64,
    pub accounts: u64,
    pub mailboxes: u64,
    pub messages: u64,
    pub bodies: u64,
    pub bodies_read: u64,
    /// Stored bytes of those.
    pub bytes_read: u64,
    pub images: u64,
    /// What is wrong, for people.
    pub problems: Vec<String>,
    pub damaged_bodies: u64,
    /// Messages that have them, as many as are named.
    pub damaged: Vec<DamagedMessage>,
}

/// A message whose body is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedMessage {
    pub account: String,
    pub mailbox: String,
    pub uid: u32,
    pub reason: String,
    /// The file of the log that it lies in.
    pub file: u64,
}

pub(super) struct Audit<'a> {
    pub shared: &'a Arc<Shared>,
    pub asks: &'a dyn Asks,
    /// Bytes of bodies a second; 0: as fast as it goes.
    pub rate: u64,
}

/// What came of reading bodies.
#[derive(Default)]
pub(super) struct Bodies {
    pub read: u64,
    pub bytes: u64,
    pub damaged: HashMap<BlobId, Damaged>,
    /// All were read: what is not in `damaged` is good.
    pub complete: bool,
}

impl Audit<'_> {
    /// The whole check.
    pub(super) fn run(&self, deep: bool) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport {
            deep,
            accounts: self.shared.directory.load().accounts.len() as u64,
            ..CheckReport::default()
        };
        self.asks.progress("reading the index");
        let sizes = self.sizes()?;
        let mut beyond = HashMap::new();
        let tally = self.survey(&mut |id, record| {
            if let Some(reason) = out_of_place(&sizes, &record.place) {
                beyond.insert(id, Damaged::new(record.place.segment, reason));
            }
        })?;
        let Some((group, tally)) = tally else {
            report.ok = true;
            return Ok(report);
        };
        report.group = group;
        report.mailboxes = tally.mailboxes();
        report.messages = tally.messages;
        report.bodies = tally.bodies;
        self.index(&tally, &mut report);
        self.asks.progress("reading state images and the log");
        self.images(&mut report)?;
        self.log(&mut report)?;
        let mut damaged = self.shared.quarantine.all();
        if deep {
            let found = self.bodies(tally.live(), 0)?;
            report.bodies_read = found.read;
            report.bytes_read = found.bytes;
            if found.complete {
                damaged.clear();
            }
            damaged.extend(found.damaged);
        }
        damaged.extend(beyond);
        let damaged = self.settle(damaged)?;
        report.damaged_bodies = damaged.len() as u64;
        if !damaged.is_empty() {
            report.damaged = self.messages_of(&damaged)?;
            report.problems.push(format!(
                "{} message bodies are damaged; restore the log's files that hold them from a \
                 backup, or expunge the messages",
                damaged.len()
            ));
        }
        report.ok = report.problems.is_empty();
        Ok(report)
    }

    /// Reads all bodies, beginning somewhere.
    pub(super) fn scrub(&self, now: UnixMillis) -> Result<(), StoreError> {
        let Some((_, tally)) = self.survey(&mut |_, _| {})? else {
            return Ok(());
        };
        let files: Vec<u64> = tally.live().keys().copied().collect();
        let from = usize::try_from(now.0 / 1000).unwrap_or(0) % files.len().max(1);
        let found = self.bodies(tally.live(), files.get(from).copied().unwrap_or(0))?;
        self.shared.telemetry.store.scrubbed(found.bytes);
        if found.damaged.is_empty() {
            tracing::debug!(bodies = found.read, "all message bodies are as they were");
        }
        self.settle(found.damaged).map(drop)
    }

    /// Whether the index adds up; built anew where it does not.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        let Some((_, tally)) = self.survey(&mut |_, _| {})? else {
            return Ok(());
        };
        self.index(&tally, &mut CheckReport::default());
        Ok(())
    }

    fn index(&self, tally: &Tally, report: &mut CheckReport) {
        let lost = self.shared.damage.lost_groups();
        let complaints = tally.complaints(lost > 0);
        if let Some(first) = complaints.first() {
            self.shared.telemetry.store.index_doubted(first);
            self.shared.ask_for_rebuild();
            report.problems.push(format!(
                "the index does not add up ({}{}); it is being built anew from state image and log",
                complaints[..complaints.len().min(10)].join(", "),
                if complaints.len() > 10 { ", ..." } else { "" }
            ));
        }
        if lost > 0 {
            report.problems.push(format!(
                "{lost} acknowledged groups of changes are missing in the log, since an earlier \
                 start; restore it from a backup"
            ));
        }
        let mended = self.shared.damage.mended_mailboxes();
        if mended > 0 {
            report.problems.push(format!(
                "{mended} mailboxes did not add up after the last rebuild and show what there is \
                 of them"
            ));
        }
    }

    fn survey(
        &self,
        each: &mut dyn FnMut(BlobId, BlobRecord),
    ) -> Result<Option<(u64, Tally)>, StoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let surveyed = take::survey(
                self.shared,
                &mut |_, key, value| {
                    let id = key.strip_prefix(b"b").and_then(|id| id.first_chunk());
                    if let (Some(id), Ok(record)) = (id, keys::decode(value)) {
                        each(BlobId(*id), record);
                    }
                    Ok(())
                },
                &|| self.asks.go_on(),
            );
            match surveyed {
                Err(take::TakeError::Ended(capture::Ended::Busy)) if Instant::now() < until => {
                    self.asks.pause(Duration::from_millis(200));
                    if !self.asks.go_on() {
                        return Err(StoreError::Closed);
                    }
                }
                done => {
                    let done = done.map_err(|error| error.told())?;
                    return Ok(done.map(|(header, tally, _)| (header.seq, tally)));
                }
            }
        }
    }

    /// Lengths of the files that no longer grow.
    fn sizes(&self) -> Result<BTreeMap<u64, u64>, StoreError> {
        let end = self.shared.ring.end().segment;
        let segments = self.shared.reader.segments()?;
        let mut sizes: BTreeMap<_, _> = segments.into_iter().collect();
        sizes.retain(|number, _| *number < end);
        sizes.insert(end, u64::MAX);
        Ok(sizes)
    }

    fn images(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let (disk, data) = (&*self.shared.disk, &self.shared.options.dir);
        let listed =
            files::list(disk, data).map_err(|error| StoreError::Write(error.to_string()))?;
        for candidate in listed {
            let checked = Image::open(disk, &candidate.path).and_then(|image| image.check());
            report.images += 1;
            if let Err(error) = checked {
                self.shared.telemetry.store.bad_image();
                report.problems.push(format!(
                    "a state image can't be used: {error}; the next one takes its place"
                ));
            }
        }
        Ok(())
    }

    /// What a rebuild would read.
    fn log(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let newest = files::newest_header(
            &*self.shared.disk,
            &self.shared.options.dir,
            Some(self.shared.store_id),
        );
        let newest = newest.map_err(|error| StoreError::Write(error.to_string()))?;
        let (from, after) = newest.map_or_else(Default::default, |h| (h.at, h.seq));
        let mut last = after;
        let mut missing = 0;
        let asks = self.asks;
        let read = self
            .shared
            .reader
            .read_from(from, Some(after), &mut |frame| {
                missing += frame.seq.saturating_sub(last + 1);
                last = frame.seq;
                asks.go_on()
            });
        let read = read?;
        if !self.asks.go_on() {
            return Err(StoreError::Closed);
        }
        let known = self.shared.damage.lost_groups();
        if read.damaged_bytes > 0 || missing > known {
            report.problems.push(format!(
                "the log is damaged: {missing} groups after the newest state image and {} bytes \
                 can't be read; the index still has them: take a new image with `posthorn store \
                 image`",
                read.damaged_bytes
            ));
        }
        Ok(())
    }

    /// Reads the bodies of files of the log, beginning with the first that is not before `from`
    /// and ending with those that are.
    pub(super) fn bodies(
        &self,
        live: &BTreeMap<u64, Live>,
        from: u64,
    ) -> Result<Bodies, StoreError> {
        let mut found = Bodies::default();
        let all: u64 = live.values().map(|live| live.bytes).sum();
        let files = live.range(from..).chain(live.range(..from));
        for (number, expected) in files {
            if *number == 0 {
                // Bodies that are known to lie nowhere.
                self.scan_places(*number, &HashSet::new(), &mut found)?;
                continue;
            }
            let done = found.bytes.saturating_mul(100) / all.max(1);
            self.asks
                .progress(&format!("reading message bodies: {}%", done.min(100)));
            let mut seen = HashSet::new();
            let (bodies, _) = match self.shared.reader.bodies_in(*number) {
                Ok(read) => read,
                // A file of one body, or one that is gone.
                Err(LogError::Missing(_) | LogError::Damaged(_)) => Default::default(),
                Err(error) => return Err(error.into()),
            };
            let mut sound = 0;
            for (id, place) in bodies {
                if self.place_of(id)? == Some(place) {
                    sound += 1;
                    seen.insert(id);
                    self.body(id, &place, &mut found)?;
                }
            }
            if sound < expected.bodies {
                self.scan_places(*number, &seen, &mut found)?;
            }
        }
        found.complete = true;
        Ok(found)
    }

    /// Bodies of a file that its own directory does not name.
    fn scan_places(
        &self,
        number: u64,
        seen: &HashSet<BlobId>,
        found: &mut Bodies,
    ) -> Result<(), StoreError> {
        let mut more = Vec::new();
        self.shared.scan(b"b", &mut |key, value| {
            let record: BlobRecord = keys::decode(value)?;
            let id = key.get(1..).and_then(|id| id.first_chunk());
            if let Some(id) = id.map(|id| BlobId(*id))
                && record.place.segment == number
                && !seen.contains(&id)
            {
                more.push((id, record.place));
            }
            Ok(())
        })?;
        more.iter()
            .try_for_each(|(id, place)| self.body(*id, place, found))
    }

    fn place_of(&self, id: BlobId) -> Result<Option<BlobPlace>, StoreError> {
        let record: Option<BlobRecord> = self.shared.get(&keys::blob(id))?;
        Ok(record.map(|record| record.place))
    }

    fn body(&self, id: BlobId, place: &BlobPlace, found: &mut Bodies) -> Result<(), StoreError> {
        if !self.asks.go_on() {
            return Err(StoreError::Closed);
        }
        let started = Instant::now();
        match self.shared.blobs.check(&id, place) {
            Ok(()) => {}
            // It moved, or its messages are gone.
            Err(_) if self.place_of(id)? != Some(*place) => return Ok(()),
            Err(error) => {
                let reason = error.to_string();
                self.shared.telemetry.store.damaged_body(id, &reason);
                found
                    .damaged
                    .insert(id, Damaged::new(place.segment, reason));
            }
        }
        found.read += 1;
        found.bytes += place.stored_len;
        if self.rate > 0 {
            let due = Duration::from_secs_f64(place.stored_len as f64 / self.rate as f64);
            self.asks.owe(due.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    /// Remembers what is damaged, and forgets what is not any more. Gives what is.
    pub(super) fn settle(
        &self,
        mut damaged: HashMap<BlobId, Damaged>,
    ) -> Result<HashMap<BlobId, Damaged>, StoreError> {
        let mut gone = Vec::new();
        for id in damaged.keys() {
            if self.place_of(*id)?.is_none() {
                gone.push(*id);
            }
        }
        gone.iter().for_each(|id| {
            damaged.remove(id);
        });
        let facts = self.shared.quarantine.replace(&damaged);
        if !facts.is_empty() {
            self.asks.commit(
                64 * facts.len(),
                Box::new(move |tx| facts.into_iter().try_for_each(|fact| tx.fact(fact))),
            )?;
        }
        self.shared
            .telemetry
            .store
            .quarantined(self.shared.quarantine.len());
        Ok(damaged)
    }

    /// The messages that have them. Reads all records.
    fn messages_of(
        &self,
        damaged: &HashMap<BlobId, Damaged>,
    ) -> Result<Vec<DamagedMessage>, StoreError> {
        let mut found = Vec::new();
        self.shared.scan_from(b"m", None, &mut |key, value| {
            let blob = keys::record_start(value).map(|(_, blob)| blob);
            if let Some(what) = blob.and_then(|blob| damaged.get(&blob))
                && let Some((mailbox, uid)) = message_of(key)
            {
                found.push((mailbox, uid, what.clone()));
            }
            Ok(found.len() < NAMED)
        })?;
        let directory = self.shared.directory.load();
        let named = found.into_iter().map(|(key, uid, what)| {
            let account = directory.account(key.account);
            let account =
                account.map_or_else(|| key.account.to_string(), |a| a.address.to_string());
            let view = self.shared.account(key.account).ok();
            let list = view.map(|view| view.list.load_full());
            let info = list.and_then(|l| l.mailboxes.iter().find(|m| m.key == key).cloned());
            DamagedMessage {
                account,
                mailbox: info.map_or_else(|| key.mailbox.to_string(), |info| info.name),
                uid,
                reason: what.reason,
                file: what.file,
            }
        });
        Ok(named.collect())
    }
}

fn message_of(key: &[u8]) -> Option<(MailboxKey, u32)> {
    let number = |at: usize| {
        let raw = key.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*raw))
    };
    let key = MailboxKey {
        account: AccountId(number(1)?),
        mailbox: MailboxId(number(5)?),
    };
    Some((key, number(9)?))
}

/// Why no such body can be there. `sizes` are those of segments.
fn out_of_place(sizes: &BTreeMap<u64, u64>, place: &BlobPlace) -> Option<String> {
    if place.segment == 0 {
        return Some("it is lost".into());
    }
    let newest = sizes.last_key_value().map_or(0, |(number, _)| *number);
    if has_own_file(place) || place.segment > newest {
        return None;
    }
    let end = place.offset.saturating_add(place.stored_len);
    match sizes.get(&place.segment) {
        None => Some("the file that it lies in is gone".into()),
        Some(len) if end > *len => Some("it lies beyond its file's end".into()),
        Some(_) => None,
    }
}
