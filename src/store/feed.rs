//! Changes in commit order, for workers with a durable cursor.
//!
//! A feed reads a bounded ring in memory, and the log itself where it lags or after a restart:
//! no queue without bound, and no change lost.
//!
//! May import: types.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::StoreError;
use super::handle::Store;
use super::ops::{Group, Op, Origin};
use super::shared::Shared;
use crate::types::{Flags, LogPos, MailboxKey, SystemFlags, Uid, UnixMillis};

/// How a message came into a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// SMTP, or the notification API.
    Delivery,
    Append,
    Copy,
}

/// One change, as workers need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Arrived {
        mailbox: MailboxKey,
        uid: Uid,
        flags: Flags,
        source: Source,
    },
    Seen {
        mailbox: MailboxKey,
        uid: Uid,
    },
    Expunged {
        mailbox: MailboxKey,
        uid: Uid,
    },
}

/// The changes of one commit group.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where the log stands after it; what a worker puts into its cursor.
    pub end: LogPos,
    /// When it was committed.
    pub at: UnixMillis,
    pub changes: Arc<[Change]>,
}

pub(super) fn changes(ops: &[Op]) -> Arc<[Change]> {
    let mut all = Vec::new();
    for op in ops {
        match op {
            Op::Arrive {
                origin, entries, ..
            } => all.extend(entries.iter().map(|e| {
                let source = match origin {
                    Origin::Delivery => Source::Delivery,
                    Origin::Append => Source::Append,
                };
                Change::Arrived {
                    mailbox: e.mailbox,
                    uid: e.uid,
                    flags: e.flags,
                    source,
                }
            })),
            Op::SetFlags {
                mailbox, changes, ..
            } => all.extend(
                changes
                    .iter()
                    .filter(|(_, flags)| flags.system.contains(SystemFlags::SEEN))
                    .map(|(uid, _)| Change::Seen {
                        mailbox: *mailbox,
                        uid: *uid,
                    }),
            ),
            Op::Expunge { mailbox, uids, .. } => {
                all.extend(uids.iter().map(|u| Change::Expunged {
                    mailbox: *mailbox,
                    uid: Uid(u),
                }));
            }
            Op::Copy { to, entries, .. } => {
                all.extend(entries.iter().map(|(_, uid, flags)| Change::Arrived {
                    mailbox: *to,
                    uid: *uid,
                    flags: *flags,
                    source: Source::Copy,
                }));
            }
            _ => {}
        }
    }
    all.into()
}

/// The newest groups, when they were committed, and where the log ends.
pub(super) struct Ring {
    moments: Mutex<VecDeque<(UnixMillis, Instant)>>,
    groups: Mutex<VecDeque<(LogPos, Committed)>>,
    capacity: usize,
    end: watch::Sender<LogPos>,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            moments: Mutex::default(),
            groups: Mutex::default(),
            capacity: capacity.max(1),
            end: watch::Sender::new(LogPos::default()),
        }
    }

    pub(super) fn start_at(&self, end: LogPos) {
        self.end.send_replace(end);
    }

    pub(super) fn end(&self) -> LogPos {
        *self.end.borrow()
    }

    /// The group of this time is durable since `moment`; noted before anybody hears of it.
    pub(super) fn synced(&self, at: UnixMillis, moment: Instant) {
        let mut moments = self.moments.lock();
        if moments.len() >= self.capacity {
            moments.pop_front();
        }
        moments.push_back((at, moment));
    }

    /// Of several groups in one millisecond the first. None: of an earlier process, or long ago.
    fn moment(&self, at: UnixMillis) -> Option<Instant> {
        let moments = self.moments.lock();
        let newest = moments.iter().rev().skip_while(|(other, _)| *other != at);
        newest
            .take_while(|(other, _)| *other == at)
            .last()
            .map(|(_, moment)| *moment)
    }

    pub(super) fn push(&self, group: Committed) {
        let (start, end) = (self.end(), group.end);
        let mut groups = self.groups.lock();
        if groups.len() >= self.capacity {
            groups.pop_front();
        }
        groups.push_back((start, group));
        drop(groups);
        // Whoever looks sees it; whoever waits is woken by `tell`, after the answers.
        self.end.send_if_modified(|at| {
            *at = end;
            false
        });
    }

    pub(super) fn tell(&self) {
        self.end.send_modify(|_| ());
    }

    /// Groups after `from` that have changes, and how far that looked. None: the ring does not
    /// reach back so far.
    fn after(&self, from: LogPos) -> Option<(Option<Committed>, LogPos)> {
        let groups = self.groups.lock();
        let covered = groups
            .front()
            .map_or(from == self.end(), |(start, _)| *start <= from);
        if !covered {
            return None;
        }
        let at = groups.partition_point(|(_, g)| g.end <= from);
        let mut looked = from;
        for (_, group) in groups.range(at..) {
            looked = group.end;
            if !group.changes.is_empty() {
                return Some((Some(group.clone()), looked));
            }
        }
        Some((None, looked))
    }
}

impl Store {
    /// How long ago the group of this time was committed: to less than a millisecond where this
    /// process did it lately, else by the wall clock.
    pub fn since_commit(&self, at: UnixMillis) -> Duration {
        match self.shared().ring.moment(at) {
            Some(moment) => moment.elapsed(),
            None => Duration::from_millis(self.now().since(at)),
        }
    }
}

/// A reader of changes.
pub struct Feed {
    shared: Arc<Shared>,
    at: LogPos,
    told: watch::Receiver<LogPos>,
    /// Read from the log and not given out yet; bounded by [`Feed::BATCH`].
    ready: VecDeque<Committed>,
}

impl Feed {
    const BATCH: usize = 256;

    pub(super) fn new(shared: Arc<Shared>, from: Option<LogPos>) -> Self {
        Self {
            told: shared.ring.end.subscribe(),
            at: from.unwrap_or_default(),
            shared,
            ready: VecDeque::new(),
        }
    }

    /// The next group that has any change; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Result<Committed, StoreError> {
        loop {
            if let Some(group) = self.ready.pop_front() {
                self.at = group.end;
                return Ok(group);
            }
            let seen = *self.told.borrow_and_update();
            match self.shared.ring.after(self.at) {
                Some((Some(group), _)) => {
                    self.at = group.end;
                    return Ok(group);
                }
                Some((None, looked)) => self.at = looked,
                None => {
                    let (shared, from) = (self.shared.clone(), self.at);
                    let read = tokio::task::spawn_blocking(move || catch_up(&shared, from));
                    let (ready, looked) = read.await.map_err(|_| StoreError::Closed)??;
                    if ready.is_empty() {
                        self.at = looked.max(self.at);
                        if looked == from {
                            // Nothing readable between here and the ring: damage was skipped.
                            self.at = seen;
                        }
                    }
                    self.ready = ready;
                    continue;
                }
            }
            if self.at >= *self.told.borrow() {
                self.told.changed().await.map_err(|_| StoreError::Closed)?;
            }
        }
    }
}

fn catch_up(shared: &Shared, from: LogPos) -> Result<(VecDeque<Committed>, LogPos), StoreError> {
    let mut ready = VecDeque::new();
    let mut looked = from;
    let mut failed = None;
    let read = shared.reader.read_from(from, None, &mut |frame| {
        looked = frame.end;
        match Group::decode(&frame.ops) {
            Ok(group) => {
                let changes = changes(&group.ops);
                if !changes.is_empty() {
                    ready.push_back(Committed {
                        end: frame.end,
                        at: group.at,
                        changes,
                    });
                }
            }
            Err(error) => failed = Some(StoreError::Index(error.to_string())),
        }
        failed.is_none() && ready.len() < Feed::BATCH
    });
    read.map_err(|error| StoreError::Index(error.to_string()))?;
    failed.map_or(Ok((ready, looked)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_newest_groups() {
        let ring = Ring::new(3);
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        for (at, millis) in [(1, 10), (2, 20), (2, 21), (3, 30)] {
            ring.synced(UnixMillis(at), after(millis));
        }
        for (at, moment) in [
            (1, None),
            (2, Some(after(20))),
            (3, Some(after(30))),
            (4, None),
        ] {
            assert_eq!(ring.moment(UnixMillis(at)), moment, "{at}");
        }
    }
}
