//! FETCH (RFC 9051, 6.4.5 and 7.5.2).
//!
//! Works through the set in windows: records of one window are read together, bodies one by
//! one, and what is written leaves in pieces.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;

use super::sync::put_flags;
use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::command::{FetchItem, Section, SectionText, SequenceSet};
use crate::imap::encode;
use crate::mail::{self, SectionRef, Structure};
use crate::store::{FlagAction, Message, MessageRecord, Snapshot, StoreError};
use crate::types::{Flag, MailboxKey, SystemFlags, UidSet};

/// Messages whose records are held at a time.
const WINDOW: usize = 128;

/// What the items need.
#[derive(Clone, Copy, Default)]
struct Needs {
    record: bool,
    /// The text, also where there is a summary.
    raw: bool,
    /// Sets \Seen.
    seen: bool,
}

impl Needs {
    fn of(items: &[FetchItem]) -> Self {
        let mut needs = Self::default();
        for item in items {
            match item {
                FetchItem::Flags | FetchItem::Uid | FetchItem::ModSeq => {}
                FetchItem::Section(section) => {
                    needs.raw = true;
                    needs.seen |= !section.peek;
                }
                FetchItem::Body => needs.raw = true,
                FetchItem::Envelope
                | FetchItem::BodyStructure
                | FetchItem::InternalDate
                | FetchItem::Rfc822Size => needs.record = true,
            }
        }
        needs.record |= needs.raw;
        needs
    }
}

impl Exec {
    pub(super) async fn fetch(
        &mut self,
        set: &SequenceSet,
        uid: bool,
        items: &[FetchItem],
        out: &mut Out<'_>,
    ) -> Answer {
        let uids = self.uids(set, uid)?;
        let needs = Needs::of(items);
        let selected = self.selected()?;
        let key = selected.key;
        let numbering = selected.numbering.clone();
        let mut items = items.to_vec();
        if uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        // RFC 9051, 6.4.5: reading marks as read, and the answer says so.
        let marked = if needs.seen && !selected.read_only {
            self.mark_seen(key, &uids).await?
        } else {
            UidSet::new()
        };
        let current = self.selected()?.current();
        let mut window: Vec<(u32, Message)> = Vec::with_capacity(WINDOW);
        let mut gone = false;
        let mut all = uids.ranges().flat_map(|r| numbering.range(r));
        loop {
            window.clear();
            window.extend(all.by_ref().take(WINDOW));
            if window.is_empty() {
                break;
            }
            gone |= self
                .window(key, &window, &items, needs, &current, &marked, out)
                .await?;
            tokio::task::yield_now().await;
        }
        if !marked.is_empty()
            && let Some(selected) = self.selected.as_mut()
        {
            selected.absorb(&marked, &mut out.buf);
        }
        if gone {
            return Err(Refusal::No(
                "[EXPUNGEISSUED] Some messages were expunged".into(),
            ));
        }
        Ok("Fetched".into())
    }

    async fn mark_seen(&self, key: MailboxKey, uids: &UidSet) -> Result<UidSet, StoreError> {
        let current = self.store.mailbox(key)?.snapshot();
        let unseen: UidSet = uids
            .ranges()
            .flat_map(|r| current.range(r))
            .filter(|(_, m)| !m.flags.system.contains(SystemFlags::SEEN))
            .map(|(_, m)| m.uid.0)
            .collect();
        if !unseen.is_empty() {
            let seen = vec![Flag::System(SystemFlags::SEEN)];
            self.store
                .store_flags(key, unseen.clone(), FlagAction::Add, seen, None)
                .await?;
        }
        Ok(unseen)
    }

    /// True where a message was gone.
    #[allow(clippy::too_many_arguments)]
    async fn window(
        &self,
        key: MailboxKey,
        window: &[(u32, Message)],
        items: &[FetchItem],
        needs: Needs,
        current: &Arc<Snapshot>,
        marked: &UidSet,
        out: &mut Out<'_>,
    ) -> Result<bool, Refusal> {
        let mut gone = false;
        let mut records: Vec<(u32, MessageRecord)> = Vec::new();
        if let (true, Some((_, first)), Some((_, last))) =
            (needs.record, window.first(), window.last())
        {
            // Where the set is sparse, single reads are cheaper than all that lies between.
            if (last.uid.0 - first.uid.0) as usize > window.len() * 4 {
                for (_, message) in window {
                    if let Some(record) = self.store.message(key, message.uid)? {
                        records.push((message.uid.0, record));
                    }
                }
            } else {
                self.store
                    .scan_messages(key, first.uid.0..=last.uid.0, &mut |uid, record| {
                        records.push((uid.0, record));
                        true
                    })?;
            }
        }
        for (seq, told) in window {
            let now = current.by_uid(told.uid);
            let record = match records.binary_search_by_key(&told.uid.0, |(uid, _)| *uid) {
                Ok(at) => Some(&records[at].1),
                Err(_) => None,
            };
            if now.is_none() || (needs.record && record.is_none()) {
                gone = true;
                continue;
            }
            let message = now.unwrap_or(*told);
            let view = View {
                exec: self,
                message,
                record,
                keywords: current.keywords(),
                with_flags: marked.contains(told.uid.0),
            };
            view.write(*seq, items, needs, out).await?;
        }
        Ok(gone)
    }
}

struct View<'a> {
    exec: &'a Exec,
    message: Message,
    record: Option<&'a MessageRecord>,
    keywords: &'a [String],
    /// Its flags just changed: they are told though nobody asked.
    with_flags: bool,
}

/// The whole message, as the client sees it.
pub(super) fn whole(
    store: &crate::store::Store,
    record: &MessageRecord,
) -> Result<bytes::Bytes, StoreError> {
    let body = store.body(record.blob)?;
    if record.prefix.is_empty() {
        return Ok(body);
    }
    let mut raw = Vec::with_capacity(record.prefix.len() + body.len());
    raw.extend_from_slice(&record.prefix);
    raw.extend_from_slice(&body);
    Ok(raw.into())
}

impl View<'_> {
    async fn write(
        &self,
        seq: u32,
        items: &[FetchItem],
        needs: Needs,
        out: &mut Out<'_>,
    ) -> Result<(), Gone> {
        // A damaged body is shown as such: its texts are NIL, and the rest is answered.
        let raw = match self.record {
            Some(record) if needs.raw || record.summary.is_none() => {
                whole(&self.exec.store, record).ok()
            }
            _ => None,
        };
        let mut structure = None;
        let _ = write!(out.buf, "* {seq} FETCH (");
        let mut flags_written = false;
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                out.buf.push(b' ');
            }
            flags_written |= *item == FetchItem::Flags;
            self.item(item, raw.as_deref(), &mut structure, &mut out.buf);
            out.piece().await?;
        }
        if self.with_flags && !flags_written {
            out.buf.push(b' ');
            self.flags(&mut out.buf);
        }
        out.line(")");
        out.piece().await
    }

    fn flags(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"FLAGS ");
        let selected = self.exec.selected.as_ref();
        let recent = !self.exec.rev2 && selected.is_some_and(|s| s.is_recent(self.message.uid));
        put_flags(out, self.message.flags, self.keywords, recent);
    }

    fn item(
        &self,
        item: &FetchItem,
        raw: Option<&[u8]>,
        structure: &mut Option<Structure>,
        out: &mut Vec<u8>,
    ) {
        let summary = self.record.and_then(|r| r.summary.as_deref());
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
                    encode::internal_date(out, record.internal_date.0, record.internal_zone);
                }
            }
            FetchItem::Rfc822Size => {
                let _ = write!(out, "RFC822.SIZE {}", self.record.map_or(0, |r| r.size));
            }
            FetchItem::Envelope => {
                out.extend_from_slice(b"ENVELOPE ");
                match summary {
                    Some(summary) => out.extend_from_slice(&summary.envelope),
                    None => out.extend_from_slice(&mail::envelope_wire(raw.unwrap_or_default())),
                }
            }
            FetchItem::BodyStructure => {
                out.extend_from_slice(b"BODYSTRUCTURE ");
                match summary {
                    Some(summary) => out.extend_from_slice(&summary.body_structure),
                    None => {
                        out.extend_from_slice(&mail::body_structure_wire(raw.unwrap_or_default()));
                    }
                }
            }
            FetchItem::Body => {
                out.extend_from_slice(b"BODY ");
                out.extend_from_slice(&mail::body_wire(raw.unwrap_or_default()));
            }
            FetchItem::Section(section) => write_section(section, raw, structure, out),
        }
    }
}

fn write_section(
    section: &Section,
    raw: Option<&[u8]>,
    structure: &mut Option<Structure>,
    out: &mut Vec<u8>,
) {
    encode::section_label(out, section);
    out.push(b' ');
    let text = raw.and_then(|raw| section_text(section, raw, structure));
    let Some(text) = text else {
        out.extend_from_slice(b"NIL");
        return;
    };
    let text: &[u8] = match section.partial {
        None => &text,
        Some((from, length)) => {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(text.len());
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            &text[from..from.saturating_add(length).min(text.len())]
        }
    };
    encode::literal(out, text);
}

fn section_text<'a>(
    section: &Section,
    raw: &'a [u8],
    structure: &mut Option<Structure>,
) -> Option<Cow<'a, [u8]>> {
    let text = match &section.text {
        SectionText::Whole => SectionRef::Whole,
        SectionText::Header => SectionRef::Header,
        SectionText::Text => SectionRef::Text,
        SectionText::Mime => SectionRef::Mime,
        SectionText::HeaderFields(names) => SectionRef::HeaderFields(names.clone()),
        SectionText::HeaderFieldsNot(names) => SectionRef::HeaderFieldsNot(names.clone()),
    };
    if section.part.is_empty() {
        return mail::header_section(raw, &text);
    }
    structure
        .get_or_insert_with(|| Structure::parse(raw))
        .section(raw, &section.part, &text)
}
