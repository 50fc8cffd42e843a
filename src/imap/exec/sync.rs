//! The selected mailbox as its client sees it, and how the client hears of what changed.
//!
//! May import: store, types.
//!
//! `numbering` is the snapshot whose sequence numbers the client uses; `flags` is the one whose
//! flags it was last told. They are the same unless an expunge waits to be told: EXPUNGE may not
//! be sent during FETCH, STORE and SEARCH (RFC 9051, 7.5.1), and then nothing else may be told
//! that would renumber. No number of any other snapshot ever reaches the client.

use std::io::Write as _;
use std::sync::Arc;

use tokio::sync::watch;

use super::context::Contexts;
use crate::imap::capability::Enabled;
use crate::imap::command::{SeqNumber, SequenceSet};
use crate::store::{Diff, Mailbox, Message, Snapshot};
use crate::types::{Flags, MailboxKey, ModSeq, Rights, SystemFlags, Uid, UidSet};

/// What may be told at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    Everything,
    /// Sequence numbers must stay as they are.
    NoExpunge,
    /// The same, but what is new is told, with numbers behind all others (RFC 5465, 6.1.2).
    Delayed,
}

/// A number that is no message's (RFC 9051, 9, seq-number: BAD).
#[derive(Debug, PartialEq, Eq)]
pub struct NoSuchNumber;

/// Flags that others changed, to be told one by one: there may be as many as messages.
pub struct FlagChanges {
    known: Arc<Snapshot>,
    numbers: Arc<Snapshot>,
    before: Arc<Snapshot>,
    pub now: Arc<Snapshot>,
}

impl FlagChanges {
    /// With their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Message)> + '_ {
        let all = self.now.changed_from(&self.before);
        let known = all.filter(|message| self.known.by_uid(message.uid).is_some());
        known.filter_map(|message| Some((self.numbers.seq_of(message.uid)?, message)))
    }
}

/// The selected mailbox of one session.
pub struct Selected {
    pub key: MailboxKey,
    pub mailbox: Arc<Mailbox>,
    pub read_only: bool,
    /// What the account may do here, as of the last command.
    pub rights: Rights,
    pub numbering: Arc<Snapshot>,
    flags: Arc<Snapshot>,
    /// Keywords told, where they are others than those of `flags`.
    keywords: Option<Arc<[String]>>,
    /// Told: there is room for more keywords.
    room: bool,
    /// Messages that are \Recent here (RFC 3501, 2.3.2).
    recent: UidSet,
    /// `$` (RFC 5182).
    pub saved: UidSet,
    /// Results that are kept up to date (RFC 5267).
    pub contexts: Contexts,
    /// What shapes the answers; IMAP4rev2 knows no \Recent.
    enabled: Enabled,
    /// Expunges were told, and not yet up to which mod-sequence.
    expunged: bool,
    changes: watch::Receiver<u64>,
    /// Changes of flags by others are not told (RFC 5465).
    pub hush: bool,
}

impl Selected {
    pub fn open(mailbox: Arc<Mailbox>, read_only: bool, enabled: Enabled) -> Self {
        let mut changes = mailbox.watch();
        changes.borrow_and_update();
        // Claimed before the snapshot: what comes in between is then recent in two sessions,
        // which RFC 3501, 2.3.2 prefers to none.
        let recent_from = mailbox.recent_from(!read_only && !enabled.rev2);
        let numbering = mailbox.snapshot();
        let recent = numbering
            .range(recent_from.0.max(1)..=u32::MAX)
            .map(|(_, m)| m.uid.0)
            .collect();
        Self {
            key: mailbox.key(),
            read_only,
            rights: Rights::ALL,
            flags: Arc::clone(&numbering),
            keywords: None,
            room: numbering.has_keyword_room(),
            numbering,
            recent,
            saved: UidSet::new(),
            contexts: Contexts::default(),
            enabled,
            expunged: false,
            changes,
            hush: false,
            mailbox,
        }
    }

    /// Waits for a commit that touched the mailbox, or its removal. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The store is closing; the session hears that from elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// The newest state, from which all data items are answered.
    pub fn current(&self) -> Arc<Snapshot> {
        self.mailbox.snapshot()
    }

    pub fn is_recent(&self, uid: Uid) -> bool {
        !self.enabled.rev2 && self.recent.contains(uid.0)
    }

    pub fn recent_set(&self) -> &UidSet {
        &self.recent
    }

    /// The UIDs that a set means: only messages that the client knows of, in ranges that may
    /// span gaps in the numbering.
    pub fn uids(&self, set: &SequenceSet, uid: bool) -> Result<UidSet, NoSuchNumber> {
        if *set == SequenceSet::Saved {
            return Ok(self.saved.clone());
        }
        let ranges = set.ranges();
        let Some(last) = self.numbering.last_uid() else {
            return if uid {
                Ok(UidSet::new())
            } else {
                Err(NoSuchNumber)
            };
        };
        let mut out = Vec::with_capacity(ranges.len());
        for (a, b) in ranges {
            if uid {
                let value = |n: &SeqNumber| match n {
                    SeqNumber::Number(n) => *n,
                    SeqNumber::Star => last.0,
                };
                let (a, b) = (value(a), value(b));
                let (low, high) = (a.min(b), a.max(b).min(last.0));
                if low <= high {
                    out.push((low, high));
                }
            } else {
                let count = self.numbering.len();
                let value = |n: &SeqNumber| match n {
                    SeqNumber::Number(n) => *n,
                    SeqNumber::Star => count,
                };
                let (a, b) = (value(a), value(b));
                let low = self.numbering.by_seq(a.min(b)).ok_or(NoSuchNumber)?;
                let high = self.numbering.by_seq(a.max(b)).ok_or(NoSuchNumber)?;
                out.push((low.uid.0, high.uid.0));
            }
        }
        if set.has_saved() {
            out.extend(self.saved.ranges().map(|r| (*r.start(), *r.end())));
        }
        Ok(UidSet::from_ranges(out))
    }

    /// Nothing waits to be told of the state that numbering stands for.
    pub fn is_all_told(&self) -> bool {
        Arc::ptr_eq(&self.numbering, &self.flags)
    }

    /// Writes what the client has not been told yet, as far as it may be told now, but changes of
    /// flags: those that are left to tell come with the newest message that was announced.
    pub fn sync(
        &mut self,
        telling: Telling,
        enabled: Enabled,
        out: &mut Vec<u8>,
    ) -> Option<(Option<Uid>, FlagChanges)> {
        self.enabled = enabled;
        self.changes.borrow_and_update();
        let recent_from = (!enabled.rev2).then(|| self.mailbox.recent_from(!self.read_only));
        let newest = self.mailbox.snapshot();
        if Arc::ptr_eq(&newest, &self.numbering) && Arc::ptr_eq(&newest, &self.flags) {
            return None;
        }
        let numbering = self.numbering.diff(&newest);
        let mut changes = FlagChanges {
            // One that was added since is not told of: the client knows no flags of it yet.
            known: Arc::clone(&self.numbering),
            numbers: Arc::clone(&newest),
            before: Arc::clone(&self.flags),
            now: Arc::clone(&newest),
        };
        self.tell_keywords(&newest, out);
        if telling != Telling::Everything && !numbering.expunged.is_empty() {
            // What comes behind them changes no number.
            changes.numbers = Arc::clone(&self.numbering);
            let mut last = None;
            if telling == Telling::Delayed {
                let kept = newest.keeping(&self.numbering, &numbering.expunged);
                let added = Diff {
                    added: numbering.added.clone(),
                    ..Diff::default()
                };
                self.tell_numbering(&added, &kept, recent_from, out);
                self.numbering = Arc::new(kept);
                last = added.added.last().map(|m| m.uid);
            }
            self.flags = newest;
            self.keywords = None;
            return Some((last, changes));
        }
        self.tell_numbering(&numbering, &newest, recent_from, out);
        self.numbering = Arc::clone(&newest);
        self.flags = newest;
        self.keywords = None;
        Some((numbering.added.last().map(|m| m.uid), changes))
    }

    fn tell_numbering(
        &mut self,
        diff: &Diff,
        newest: &Snapshot,
        recent_from: Option<Uid>,
        out: &mut Vec<u8>,
    ) {
        if !diff.expunged.is_empty() {
            self.contexts.expunged(&diff.expunged, &self.numbering, out);
            self.tell_expunged(&diff.expunged, out);
            self.forget(&diff.expunged);
            self.expunged = true;
        }
        if diff.added.is_empty() {
            return;
        }
        let _ = write!(out, "* {} EXISTS\r\n", newest.len());
        if let Some(from) = recent_from {
            for message in diff.added.iter().filter(|m| m.uid >= from) {
                self.recent.insert(message.uid.0);
            }
            let _ = write!(out, "* {} RECENT\r\n", self.recent.len());
        }
    }

    fn tell_expunged(&self, gone: &[Uid], out: &mut Vec<u8>) {
        // RFC 7162, 3.2.10.2; RFC 9586, 3.4
        if self.enabled.qresync || self.enabled.uidonly {
            let gone: UidSet = gone.iter().map(|uid| uid.0).collect();
            let _ = write!(out, "* VANISHED {gone}\r\n");
            return;
        }
        // Highest first: then no number that is still to come has moved.
        for uid in gone.iter().rev() {
            if let Some(seq) = self.numbering.seq_of(*uid) {
                let _ = write!(out, "* {seq} EXPUNGE\r\n");
            }
        }
    }

    /// Up to where the client has heard everything, where the mod-sequences that it was told do
    /// not say so: while an expunge waits to be told, and once it was (RFC 7162, 3.2 and 6).
    pub fn modseq_to_tell(&mut self) -> Option<ModSeq> {
        let waits = !Arc::ptr_eq(&self.flags, &self.numbering);
        let told = std::mem::take(&mut self.expunged);
        if self.hush {
            // Not everything was told.
            return None;
        }
        let tell = (waits && self.enabled.condstore) || (told && self.enabled.qresync);
        tell.then(|| self.numbering.highest_modseq())
    }

    /// `\Recent` and `$` lose what is gone (RFC 5182, 2.1).
    fn forget(&mut self, gone: &[Uid]) {
        let gone: UidSet = gone.iter().map(|u| u.0).collect();
        for set in [&mut self.recent, &mut self.saved] {
            if !set.is_empty() {
                *set = set.iter().filter(|n| !gone.contains(*n)).collect();
            }
        }
    }

    /// Before flags of `now` are told: the lists, so that new keywords are known.
    pub fn tell_keywords(&mut self, now: &Arc<Snapshot>, out: &mut Vec<u8>) {
        let told = self.told_keywords();
        let renamed = !Arc::ptr_eq(told, now.keywords()) && told != now.keywords();
        let room = now.has_keyword_room();
        if renamed || room != self.room {
            self.flag_lists(now, out);
            self.keywords = Some(Arc::clone(now.keywords()));
            self.room = room;
        }
    }

    /// Rights are others than before (RFC 4314, 5.1.1).
    pub fn set_rights(&mut self, rights: Rights, out: &mut Vec<u8>) {
        let changed = self.rights.flags() != rights.flags();
        self.rights = rights;
        if changed {
            let now = self.mailbox.snapshot();
            self.flag_lists(&now, out);
            self.keywords = Some(Arc::clone(now.keywords()));
            self.room = now.has_keyword_room();
        }
    }

    fn told_keywords(&self) -> &Arc<[String]> {
        self.keywords
            .as_ref()
            .unwrap_or_else(|| self.flags.keywords())
    }

    /// After this session's own change: tells what others changed and takes the rest as told.
    /// `known` gives the flags that the client now takes a message to have, where it is one of
    /// its own change; of those that differ it is told too.
    pub fn absorb(&mut self, known: &dyn Fn(&Message) -> Option<Flags>, out: &mut Vec<u8>) {
        let newest = self.mailbox.snapshot();
        self.tell_keywords(&newest, out);
        let diff = self.flags.diff(&newest);
        for message in &diff.changed {
            if known(message) == Some(message.flags) {
                continue;
            }
            if let Some(seq) = self.numbering.seq_of(message.uid) {
                self.flag_change(seq, message, &newest, out);
            }
        }
        // Numbering stays unless nothing of it changed, so that the two can become one again.
        let numbering = self.numbering.diff(&newest);
        if numbering.expunged.is_empty() && numbering.added.is_empty() {
            self.numbering = Arc::clone(&newest);
        }
        self.flags = newest;
        self.keywords = None;
    }

    /// The flags that the client was last told of a message, as bits of `now`; None where one of
    /// them is called otherwise there.
    pub fn told(&self, uid: Uid, now: &[String]) -> Option<Flags> {
        let flags = self.flags.by_uid(uid)?.flags;
        let named = self.flags.keywords().iter().enumerate();
        let renamed = |(bit, name): (usize, &String)| {
            flags.keywords & (1 << bit) != 0 && now.get(bit) != Some(name)
        };
        (!named.into_iter().any(renamed)).then_some(flags)
    }

    /// All flags that the client was last told.
    pub fn last_told_all(&self) -> Arc<Snapshot> {
        self.flags.clone()
    }

    /// A message of the numbering as the client was last told of it, and the keywords' names.
    pub fn last_told(&self, message: Message) -> (Message, &Arc<[String]>) {
        match self.flags.by_uid(message.uid) {
            Some(message) => (message, self.flags.keywords()),
            None => (message, self.numbering.keywords()),
        }
    }

    /// `of` names the keywords.
    pub fn flag_change(&self, seq: u32, message: &Message, of: &Snapshot, out: &mut Vec<u8>) {
        if self.hush {
            return;
        }
        fetch_head(out, self.enabled, seq, message.uid);
        // With the UID, as RFC 7162 and common sense have it: it costs little and helps clients
        // that mix up numbers.
        if !self.enabled.uidonly {
            let _ = write!(out, "UID {} ", message.uid);
        }
        if self.enabled.condstore {
            let _ = write!(out, "MODSEQ ({}) ", message.modseq);
        }
        out.extend_from_slice(b"FLAGS ");
        put_flags(
            out,
            message.flags,
            of.keywords(),
            self.is_recent(message.uid),
        );
        out.extend_from_slice(b")\r\n");
    }

    /// FLAGS and PERMANENTFLAGS.
    pub fn flag_lists(&self, of: &Snapshot, out: &mut Vec<u8>) {
        let all = Flags {
            system: SystemFlags::ALL
                .iter()
                .fold(SystemFlags::default(), |all, (flag, _)| all.with(*flag)),
            keywords: u64::MAX,
        };
        let keywords = of.keywords();
        out.extend_from_slice(b"* FLAGS ");
        put_flags(out, all, keywords, false);
        out.extend_from_slice(b"\r\n* OK [PERMANENTFLAGS ");
        if self.read_only {
            out.extend_from_slice(b"()");
        } else {
            let settable = self.rights.flags();
            let can = settable.change(Flags::default(), all);
            put_flags(out, can, keywords, false);
            if settable.keywords && of.has_keyword_room() {
                out.pop();
                out.extend_from_slice(b" \\*)");
            }
        }
        out.extend_from_slice(b"] Flags\r\n");
    }
}

/// `* 5 FETCH (`, or `* 25 UIDFETCH (` where no numbers are told (RFC 9586, 3.3).
pub fn fetch_head(out: &mut Vec<u8>, enabled: Enabled, seq: u32, uid: Uid) {
    let _ = if enabled.uidonly {
        write!(out, "* {uid} UIDFETCH (")
    } else {
        write!(out, "* {seq} FETCH (")
    };
}

/// `(\Seen Label)`.
pub fn put_flags(out: &mut Vec<u8>, flags: Flags, keywords: &[String], recent: bool) {
    out.push(b'(');
    let mut first = true;
    let mut put = |name: &str| {
        if !std::mem::take(&mut first) {
            out.push(b' ');
        }
        out.extend_from_slice(name.as_bytes());
    };
    for (flag, name) in SystemFlags::ALL {
        if flags.system.contains(flag) {
            put(name);
        }
    }
    if flags.keywords != 0 {
        for (i, name) in keywords.iter().enumerate().take(u64::BITS as usize) {
            if flags.keywords & (1 << i) != 0 {
                put(name);
            }
        }
    }
    if recent {
        put("\\Recent");
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_on_the_wire() {
        let keywords = vec!["$Forwarded".to_owned(), "Work".to_owned()];
        let put = |system, bits, recent| {
            let mut out = vec![];
            let flags = Flags {
                system,
                keywords: bits,
            };
            put_flags(&mut out, flags, &keywords, recent);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(put(SystemFlags::default(), 0, false), "()");
        assert_eq!(
            put(SystemFlags::SEEN.with(SystemFlags::ANSWERED), 2, false),
            "(\\Answered \\Seen Work)"
        );
        assert_eq!(
            put(SystemFlags::default(), 3, true),
            "($Forwarded Work \\Recent)"
        );
    }
}
