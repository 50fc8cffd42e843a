//! The newest changes, in memory: what a feed reads while it keeps up.
//!
//! May import: types.
//!
//! Bounded by groups and by changes: whoever falls behind reads the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::ops::{Op, Origin};
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

/// Changes that a group may have on average, for the bound by changes.
const CHANGES_PER_GROUP: usize = 16;

/// Each with where the log stood before it.
#[derive(Default)]
struct Groups {
    newest: VecDeque<(LogPos, Committed)>,
    changes: usize,
}

/// The newest groups, when they were committed, and where the log ends.
pub(super) struct Ring {
    moments: Mutex<VecDeque<(UnixMillis, Instant)>>,
    groups: Mutex<Groups>,
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

    pub(super) fn subscribe(&self) -> watch::Receiver<LogPos> {
        self.end.subscribe()
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
    pub(super) fn moment(&self, at: UnixMillis) -> Option<Instant> {
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
        groups.changes += group.changes.len();
        groups.newest.push_back((start, group));
        while groups.newest.len() > self.capacity
            || groups.changes > self.capacity * CHANGES_PER_GROUP && groups.newest.len() > 1
        {
            let gone = groups.newest.pop_front();
            groups.changes -= gone.map_or(0, |(_, group)| group.changes.len());
        }
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
    pub(super) fn after(&self, from: LogPos) -> Option<(Option<Committed>, LogPos)> {
        let groups = &self.groups.lock().newest;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_ring_is_bounded_by_changes_too() {
        let ring = Ring::new(3);
        let key = MailboxKey {
            account: crate::types::AccountId(1),
            mailbox: crate::types::MailboxId(1),
        };
        let group = |end, count| Committed {
            end: LogPos {
                segment: 1,
                offset: end,
            },
            at: UnixMillis(1),
            changes: vec![
                Change::Seen {
                    mailbox: key,
                    uid: Uid(1),
                };
                count
            ]
            .into(),
        };
        let at = |offset| LogPos { segment: 1, offset };
        ring.start_at(at(5));
        ring.push(group(10, 1));
        ring.push(group(20, 1));
        assert!(ring.after(at(0)).is_none(), "the log is needed");
        assert_eq!(ring.after(at(10)).unwrap().1, at(20));
        ring.push(group(30, 1_000));
        assert!(ring.after(at(10)).is_none(), "one large group takes all");
        assert_eq!(ring.after(at(20)).unwrap().1, at(30));
        ring.push(group(40, 1));
        assert_eq!(ring.after(at(30)).unwrap().1, at(40));
        assert!(ring.after(at(20)).is_none());
    }

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
