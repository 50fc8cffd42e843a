//! FETCH (RFC 9051, 6.4.5 and 7.5.2).
//!
//! Works through the set in windows: records of one window are read together, bodies one by
//! one, and what is written leaves in pieces.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::ahead::Ahead;
use super::sync::{fetch_head, put_flags};
use super::text::{Message as Text, Place};
use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::command::{FetchItem, FetchModifiers, Section, SequenceSet};
use crate::imap::{encode, object_id};
use crate::store::{
    BodyPlace, FlagAction, Message, MessageRecord, Snapshot, StoreError, Unchanged,
};
use crate::types::{Flag, MailboxKey, ModSeq, Rights, SystemFlags, Uid, UidSet};

/// Messages whose records are held at a time.
const WINDOW: usize = 128;

/// Who fetches so many envelopes mostly searches or sorts them next.
const MANY: u64 = 1_000;

/// What the items need.
#[derive(Clone, Copy, Default)]
struct Needs {
    record: bool,
    /// Sets \Seen.
    seen: bool,
    /// Of messages that are gone, what was told of them is enough (RFC 2180, 4.1.1). Not with
    /// UIDs: there EXPUNGE may be told, and is.
    told: bool,
}

impl Needs {
    fn of(items: &[FetchItem], uid: bool) -> Self {
        let mut needs = Self::default();
        for item in items {
            match item {
                FetchItem::Flags | FetchItem::Uid | FetchItem::ModSeq => {}
                FetchItem::Section(Section { peek, .. }) | FetchItem::Binary { peek, .. } => {
                    needs.record = true;
                    needs.seen |= !peek;
                }
                FetchItem::Envelope
                | FetchItem::Body
                | FetchItem::BodyStructure
                | FetchItem::BinarySize(_)
                | FetchItem::InternalDate
                | FetchItem::EmailId
                | FetchItem::ThreadId
                | FetchItem::SaveDate
                | FetchItem::Preview { .. }
                | FetchItem::Rfc822Size => needs.record = true,
            }
        }
        needs.told = !uid && !needs.record;
        needs
    }
}

/// What kept some messages from being answered in full.
struct Trouble {
    gone: bool,
    unknown_encoding: bool,
    damaged: bool,
    /// Those that were marked as seen, and could not be shown.
    unseen: UidSet,
    /// Previews that the client may still have without waiting (RFC 8970, 4.1).
    lazy_previews: u32,
}

/// Previews of one FETCH that take no time to speak of.
const LAZY_PREVIEWS: u32 = 1000;

impl Exec {
    pub(super) async fn fetch(
        &mut self,
        set: &SequenceSet,
        uid: bool,
        mut items: Vec<FetchItem>,
        modifiers: &FetchModifiers,
        out: &mut Out<'_>,
    ) -> Answer {
        if modifiers.vanished && !self.enabled.qresync {
            return Err(Refusal::Bad("ENABLE QRESYNC first".into()));
        }
        let mut uids = self.uids(set, uid)?;
        let numbering = self.selected()?.numbering.clone();
        // RFC 9394, 3.4: before what has changed is looked for.
        if let Some(range) = modifiers.partial {
            let there = uids.ranges().flat_map(|r| numbering.range(r));
            let there: Vec<u32> = there.map(|(_, message)| message.uid.0).collect();
            let part = there.get(range.of(there.len())).unwrap_or_default();
            self.within_limit(part.len())?;
            uids = part.iter().copied().collect();
        }
        if let Some(since) = modifiers.changed_since.map(ModSeq) {
            self.use_modseq(out);
            if modifiers.vanished {
                self.vanished(&numbering, since, &self.meant(set)?, out)?;
            }
            let current = self.selected()?.current();
            let changed = current.changed_since(since, &uids);
            uids = changed.map(|(_, message)| message.uid.0).collect();
        }
        if modifiers.changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        if items.contains(&FetchItem::ModSeq) {
            self.use_modseq(out);
        }
        uids = self.limited(uids);
        let needs = Needs::of(&items, uid);
        let selected = self.selected()?;
        let key = selected.key;
        // RFC 9586, 3.3: with UIDONLY only where it is asked for.
        if uid && !self.enabled.uidonly && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        // Asked twice, told once: structures are held until they are written.
        let mut told = Vec::new();
        items.retain(|item| {
            let structure = matches!(
                item,
                FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure
            );
            let again = structure && told.contains(item);
            if structure && !again {
                told.push(item.clone());
            }
            !again
        });
        // RFC 9051, 6.4.5: reading marks as read, and the answer says so.
        let may_mark = !selected.read_only && selected.rights.contains(Rights::SEEN);
        let marked = if needs.seen && may_mark {
            // Reading goes on where nothing can be written.
            self.mark_seen(key, &uids, &items).await.unwrap_or_default()
        } else {
            UidSet::new()
        };
        let current = self.selected()?.current();
        if let Some(selected) = self.selected.as_mut() {
            selected.tell_keywords(&current, &mut out.buf);
        }
        let mut window: Vec<(u32, Message)> = Vec::with_capacity(WINDOW);
        let mut trouble = Trouble {
            gone: false,
            unknown_encoding: false,
            damaged: false,
            unseen: UidSet::new(),
            lazy_previews: LAZY_PREVIEWS,
        };
        let mut all = uids.ranges().flat_map(|r| numbering.range(r));
        // From the last to the first where there is a limit (RFC 9738, 3.1).
        let mut down: Vec<(u32, Message)> = Vec::new();
        if self.limit_reached.is_some() {
            down.extend(all.by_ref());
        }
        loop {
            window.clear();
            window.extend(down.drain(down.len().saturating_sub(WINDOW)..).rev());
            window.extend(all.by_ref().take(WINDOW - window.len()));
            if window.is_empty() {
                break;
            }
            self.window(
                key,
                &window,
                &items,
                needs,
                &current,
                &marked,
                &mut trouble,
                out,
            )
            .await?;
            tokio::task::yield_now().await;
        }
        if uids.len() >= MANY && items.contains(&FetchItem::Envelope) {
            self.key_reader(key, &current).prepare();
        }
        if !trouble.unseen.is_empty() {
            self.unmark_seen(key, &trouble.unseen, &current).await;
        }
        if !marked.is_empty()
            && let Some(selected) = self.selected.as_mut()
        {
            // Of those that were marked, the flags in `current` were told.
            let known = |message: &Message| {
                let uid = message.uid.0;
                let told = marked.contains(uid) && !trouble.unseen.contains(uid);
                told.then(|| current.by_uid(message.uid).map(|m| m.flags))
                    .flatten()
            };
            selected.absorb(&known, &mut out.buf);
        }
        if trouble.damaged {
            // NIL alone would pass for a message without text.
            let text = "[SERVERBUG] The text of some messages is damaged on the server's disk";
            return Err(Refusal::Trouble(text.into()));
        }
        if trouble.unknown_encoding {
            // RFC 9051, 7.1
            return Err(Refusal::No(
                "[UNKNOWN-CTE] A part is in an unknown encoding".into(),
            ));
        }
        match (trouble.gone, uid) {
            (false, _) => Ok("Fetched".into()),
            // RFC 9051, 6.4.9: a UID that is not there is no error.
            (true, true) => Ok("[EXPUNGEISSUED] Fetched".into()),
            (true, false) => Err(Refusal::No(
                "[EXPUNGEISSUED] Some messages were expunged".into(),
            )),
        }
    }

    async fn mark_seen(
        &self,
        key: MailboxKey,
        uids: &UidSet,
        items: &[FetchItem],
    ) -> Result<UidSet, StoreError> {
        let current = self.store.mailbox(key)?.snapshot();
        let mut unseen: UidSet = uids
            .ranges()
            .flat_map(|r| current.range(r))
            .filter(|(_, m)| !m.flags.system.contains(SystemFlags::SEEN))
            .map(|(_, m)| m.uid.0)
            .collect();
        let marks = |item: &&FetchItem| {
            matches!(
                item,
                FetchItem::Section(Section { peek: false, .. })
                    | FetchItem::Binary { peek: false, .. }
            )
        };
        let binary = |item: &FetchItem| matches!(item, FetchItem::Binary { .. });
        let marking: Vec<FetchItem> = items.iter().filter(marks).cloned().collect();
        if marking.iter().all(binary) {
            // Who gets none of the parts that were asked for has seen nothing.
            let mut seen = Vec::new();
            for (n, uid) in unseen.iter().enumerate() {
                if n % WINDOW == 0 {
                    tokio::task::yield_now().await;
                }
                if self.is_decodable(key, Uid(uid), &marking).await? {
                    seen.push(uid);
                }
            }
            unseen = seen.into_iter().collect();
        }
        if !unseen.is_empty() {
            let seen = vec![Flag::System(SystemFlags::SEEN)];
            self.store
                .store_flags(key, unseen.clone(), FlagAction::Add, seen, None)
                .await?;
        }
        Ok(unseen)
    }

    /// Nobody has seen what is damaged. Where somebody changed its flags meanwhile, they stay.
    async fn unmark_seen(&self, key: MailboxKey, uids: &UidSet, marked: &Snapshot) {
        let seen = vec![Flag::System(SystemFlags::SEEN)];
        let unchanged = Unchanged {
            since: marked.highest_modseq(),
            told: None,
        };
        let (uids, action) = (uids.clone(), FlagAction::Remove);
        let stored = self
            .store
            .store_flags(key, uids, action, seen, Some(unchanged));
        if let Err(error) = stored.await {
            let text = super::store_error(&error);
            self.telemetry.imap.store_failed("fetch", &text);
        }
    }

    async fn is_decodable(
        &self,
        key: MailboxKey,
        uid: Uid,
        items: &[FetchItem],
    ) -> Result<bool, StoreError> {
        let Some(record) = self.store.message(key, uid)? else {
            return Ok(false);
        };
        let message = Text {
            store: &self.store,
            mailbox: key,
            uid,
            record: &record,
            place: &BodyPlace::default(),
            ahead: None,
            utf8: true,
        };
        let texts = message.texts(items).await;
        let unknown = |place: &Place| matches!(place, Place::UnknownEncoding);
        Ok(!texts.places.iter().all(unknown))
    }

    #[allow(clippy::too_many_arguments)]
    async fn window(
        &self,
        key: MailboxKey,
        window: &[(u32, Message)],
        items: &[FetchItem],
        needs: Needs,
        current: &Arc<Snapshot>,
        marked: &UidSet,
        trouble: &mut Trouble,
        out: &mut Out<'_>,
    ) -> Result<(), Refusal> {
        let mut records: Vec<(u32, MessageRecord)> = Vec::new();
        if let (true, Some((_, first)), Some((_, last))) =
            (needs.record, window.first(), window.last())
        {
            let (low, high) = (first.uid.0.min(last.uid.0), first.uid.0.max(last.uid.0));
            // Where the set is sparse, single reads are cheaper than all that lies between.
            if (high - low) as usize > window.len() * 4 {
                for (_, message) in window {
                    if let Some(record) = self.store.message(key, message.uid)? {
                        records.push((message.uid.0, record));
                    }
                }
            } else {
                self.store
                    .scan_messages(key, low..=high, &mut |uid, record| {
                        records.push((uid.0, record));
                        true
                    })?;
            }
            records.sort_unstable_by_key(|(uid, _)| *uid);
        }
        if items
            .iter()
            .any(|i| matches!(i, FetchItem::Envelope | FetchItem::BodyStructure))
        {
            for (_, record) in &mut records {
                record.summary = std::mem::take(&mut record.summary).unpack();
            }
        }
        let reads_text = items.iter().any(reads_text);
        let rising = window.is_sorted_by_key(|(seq, _)| *seq);
        let mut ahead = match reads_text && rising {
            true => Ahead::new(&self.store, &records),
            false => Ahead::new(&self.store, &[]),
        };
        for (seq, told) in window {
            let of = match current.by_uid(told.uid) {
                Some(message) => Some((message, current.keywords())),
                None if needs.told => Some(self.selected()?.last_told(*told)),
                None => None,
            };
            let at = records.binary_search_by_key(&told.uid.0, |(uid, _)| *uid);
            let record = at.ok().map(|at| &records[at].1);
            let Some((message, keywords)) = of.filter(|_| record.is_some() || !needs.record) else {
                trouble.gone = true;
                continue;
            };
            let view = View {
                exec: self,
                mailbox: key,
                message,
                record,
                keywords,
                ahead: at.ok().and_then(|at| ahead.body(at)),
                with_flags: marked.contains(told.uid.0),
            };
            view.write(*seq, items, trouble, out).await?;
        }
        Ok(())
    }
}

/// The bytes of the message, not only its record.
fn reads_text(item: &FetchItem) -> bool {
    matches!(
        item,
        FetchItem::Section(_)
            | FetchItem::Binary { .. }
            | FetchItem::BinarySize(_)
            | FetchItem::Body
            | FetchItem::ThreadId
            | FetchItem::Preview { .. }
    )
}

impl Trouble {
    fn note(&mut self, error: &StoreError) {
        match error {
            StoreError::Expunged => self.gone = true,
            _ => self.damaged = true,
        }
    }
}

/// RFC 8970, 3.2: NIL only for who may be told to ask again.
fn preview(message: Text<'_>, lazy: bool, trouble: &mut Trouble, out: &mut Vec<u8>) {
    out.extend_from_slice(b"PREVIEW ");
    if lazy {
        match trouble.lazy_previews.checked_sub(1) {
            Some(left) => trouble.lazy_previews = left,
            None => return out.extend_from_slice(b"NIL"),
        }
    }
    let text = message.preview().unwrap_or_else(|error| {
        trouble.note(&error);
        String::new()
    });
    encode::string(out, text.as_bytes());
}

/// Its place has to be found in them first.
fn needs_text(item: &FetchItem, message: Text<'_>) -> bool {
    match item {
        FetchItem::Envelope => message.kept_envelope().is_none(),
        FetchItem::BodyStructure => message.kept_structure().is_none(),
        // Read where they are written.
        FetchItem::ThreadId | FetchItem::Preview { .. } => false,
        item => reads_text(item),
    }
}

struct View<'a> {
    exec: &'a Exec,
    mailbox: MailboxKey,
    message: Message,
    record: Option<&'a MessageRecord>,
    keywords: &'a [String],
    /// Its body, where it was read ahead.
    ahead: Option<&'a Bytes>,
    /// Its flags just changed: they are told though nobody asked.
    with_flags: bool,
}

impl View<'_> {
    async fn write(
        &self,
        seq: u32,
        items: &[FetchItem],
        trouble: &mut Trouble,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        let found = BodyPlace::default();
        let message = self.record.map(|record| Text {
            store: &self.exec.store,
            mailbox: self.mailbox,
            uid: self.message.uid,
            record,
            place: &found,
            ahead: self.ahead,
            utf8: self.exec.enabled.utf8(),
        });
        let texts = match message {
            Some(message) if items.iter().any(|item| needs_text(item, message)) => {
                Some(message.texts(items).await)
            }
            _ => None,
        };
        if texts.as_ref().is_some_and(|texts| texts.gone) {
            trouble.gone = true;
            return Ok(());
        }
        // What can't be decoded is left out, and the command fails (RFC 9051, 6.4.5).
        let known = |n: usize| {
            let place = texts.as_ref().and_then(|texts| texts.places.get(n));
            !matches!(place, Some(Place::UnknownEncoding))
        };
        let left: Vec<(usize, &FetchItem)> = items
            .iter()
            .enumerate()
            .filter(|(n, _)| known(*n))
            .collect();
        trouble.unknown_encoding |= left.len() < items.len();
        let damaged = texts.as_ref().is_some_and(|texts| texts.damaged);
        trouble.damaged |= damaged;
        let with_flags = self.with_flags && !damaged;
        if self.with_flags && damaged {
            trouble.unseen.insert(self.message.uid.0);
        }
        if left.is_empty() && !with_flags {
            return Ok(());
        }
        let enabled = self.exec.enabled;
        fetch_head(&mut out.buf, enabled, seq, self.message.uid);
        let mut between = "";
        // RFC 7162, 3.2.4: what was changed is told with both.
        let unasked: &[FetchItem] = match (with_flags, enabled.condstore) {
            (false, _) => &[],
            (true, false) => &[FetchItem::Flags],
            (true, true) if enabled.uidonly => &[FetchItem::ModSeq, FetchItem::Flags],
            (true, true) => &[FetchItem::Uid, FetchItem::ModSeq, FetchItem::Flags],
        };
        let unasked = unasked.iter().filter(|item| !items.contains(item));
        for (n, item) in left {
            out.buf.extend_from_slice(between.as_bytes());
            between = " ";
            let text = texts.as_ref().and_then(|t| Some((t, t.places.get(n)?)));
            let place = text.map(|(_, place)| place);
            match (item, text, message) {
                (FetchItem::Section(section), Some((texts, place)), Some(message)) => {
                    encode::section_label(&mut out.buf, section);
                    out.buf.push(b' ');
                    texts.write_section(message, place, section, out).await?;
                }
                (FetchItem::Binary { part, partial, .. }, Some((texts, place)), Some(message)) => {
                    encode::binary_label(&mut out.buf, "BINARY", part, *partial);
                    out.buf.push(b' ');
                    texts.write_binary(message, place, *partial, out).await?;
                }
                (FetchItem::ThreadId, _, Some(message)) => {
                    out.buf.extend_from_slice(b"THREADID ");
                    match message.thread_id() {
                        Ok(id) => out.buf.extend_from_slice(format!("({id})").as_bytes()),
                        Err(error) => {
                            trouble.note(&error);
                            out.buf.extend_from_slice(b"NIL");
                        }
                    }
                }
                (FetchItem::Preview { lazy }, _, Some(message)) => {
                    preview(message, *lazy, trouble, &mut out.buf);
                }
                _ => self.item(item, place, &mut out.buf),
            }
            out.piece().await?;
        }
        for item in unasked {
            out.buf.extend_from_slice(between.as_bytes());
            between = " ";
            self.item(item, None, &mut out.buf);
        }
        out.line(")");
        out.piece().await?;
        Ok(())
    }

    fn flags(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"FLAGS ");
        let selected = self.exec.selected.as_ref();
        let recent =
            !self.exec.enabled.rev2 && selected.is_some_and(|s| s.is_recent(self.message.uid));
        put_flags(out, self.message.flags, self.keywords, recent);
    }

    /// Items that are no text.
    fn item(&self, item: &FetchItem, place: Option<&Place>, out: &mut Vec<u8>) {
        let summary = self.record.and_then(|r| r.summary.plain());
        let wire = match (place, item, summary) {
            (Some(Place::Wire(wire)), ..) => wire.as_slice(),
            (_, FetchItem::Envelope, Some(summary)) => &summary.envelope,
            (_, FetchItem::BodyStructure, Some(summary)) => &summary.body_structure,
            _ => b"NIL",
        };
        match item {
            FetchItem::Uid => {
                let _ = write!(out, "UID {}", self.message.uid);
            }
            FetchItem::ModSeq => {
                let _ = write!(out, "MODSEQ ({})", self.message.modseq);
            }
            FetchItem::Flags => self.flags(out),
            FetchItem::InternalDate => {
                out.extend_from_slice(b"INTERNALDATE ");
                if let Some(record) = self.record {
                    let at = record.internal_date.signed();
                    encode::internal_date(out, at, record.internal_zone);
                }
            }
            FetchItem::SaveDate => {
                out.extend_from_slice(b"SAVEDATE ");
                if let Some(record) = self.record {
                    encode::internal_date(out, record.saved.signed(), 0);
                }
            }
            FetchItem::EmailId => {
                if let Some(record) = self.record {
                    let id = object_id::email_id(record.blob, record.variant());
                    let _ = write!(out, "EMAILID ({id})");
                }
            }
            FetchItem::ThreadId => out.extend_from_slice(b"THREADID NIL"),
            FetchItem::Preview { .. } => out.extend_from_slice(b"PREVIEW \"\""),
            FetchItem::Rfc822Size => {
                let _ = write!(out, "RFC822.SIZE {}", self.record.map_or(0, |r| r.size));
            }
            FetchItem::Envelope => {
                out.extend_from_slice(b"ENVELOPE ");
                out.extend_from_slice(wire);
            }
            FetchItem::BodyStructure => {
                out.extend_from_slice(b"BODYSTRUCTURE ");
                out.extend_from_slice(wire);
            }
            FetchItem::Body => {
                out.extend_from_slice(b"BODY ");
                out.extend_from_slice(wire);
            }
            FetchItem::BinarySize(part) => {
                encode::binary_label(out, "BINARY.SIZE", part, None);
                let size = match place {
                    Some(Place::Size(size)) => *size,
                    _ => 0,
                };
                let _ = write!(out, " {size}");
            }
            // Written by `write`; without a record there is nothing to write of.
            FetchItem::Section(section) => {
                encode::section_label(out, section);
                out.extend_from_slice(b" NIL");
            }
            FetchItem::Binary { part, partial, .. } => {
                encode::binary_label(out, "BINARY", part, *partial);
                out.extend_from_slice(b" NIL");
            }
        }
    }
}
