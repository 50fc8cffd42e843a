//! SEARCH and its answers (RFC 9051, 6.4.4 and 7.3.4; RFC 4731; RFC 5182).

use std::cell::OnceCell;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::sync::Selected;
use super::text::Message as Text;
use super::{Answer, Exec, Out, aside};
use crate::imap::command::{Search, SearchReturn};
use crate::imap::search::{Candidate, Program};
use crate::mail::{self, SearchScope};
use crate::store::{Message, MessageRecord, Store};
use crate::types::{Flags, UidSet};

/// How long a search looks at messages before others may run.
const TURN: Duration = Duration::from_millis(5);

impl Exec {
    pub(super) async fn search(&mut self, search: &Search, out: &mut Out<'_>) -> Answer {
        let selected = self.selected()?;
        let numbering = selected.numbering.clone();
        let current = selected.current();
        let max_uid = numbering.last_uid().map_or(0, |u| u.0);
        let program = Program::compile(
            &search.key,
            numbering.len(),
            max_uid,
            &selected.saved,
            &|text| mail::fold(text),
        );
        let now = self.store.now().signed();
        let mut found: Vec<(u32, u32)> = Vec::new();
        let selected = self.selected()?;
        let mut all = numbering.iter();
        let mut turn = || {
            let began = Instant::now();
            for (seq, told) in all.by_ref() {
                // What is gone matches nothing (RFC 9051, 6.4.4 leaves it open).
                let Some(message) = current.by_uid(told.uid) else {
                    continue;
                };
                let candidate = Found {
                    store: &self.store,
                    selected,
                    keywords: current.keywords(),
                    seq,
                    message,
                    record: OnceCell::new(),
                    raw: OnceCell::new(),
                    top: OnceCell::new(),
                };
                if program.matches(&candidate, now) {
                    found.push((seq, message.uid.0));
                }
                if began.elapsed() >= TURN {
                    return true;
                }
            }
            false
        };
        let heavy = program.reads_messages();
        while if heavy { aside(&mut turn) } else { turn() } {
            tokio::task::yield_now().await;
            out.is_awaited().await?;
        }
        self.answer(search, &found, out)
    }

    fn answer(&mut self, search: &Search, found: &[(u32, u32)], out: &mut Out<'_>) -> Answer {
        let number = |(seq, uid): &(u32, u32)| if search.uid { *uid } else { *seq };
        let returns = match &search.returns {
            None if self.rev2 => vec![SearchReturn::All],
            None => {
                out.buf.extend_from_slice(b"* SEARCH");
                for hit in found {
                    let _ = write!(out.buf, " {}", number(hit));
                }
                out.line("");
                return Ok("Searched".into());
            }
            Some(returns) if returns.is_empty() => vec![SearchReturn::All],
            Some(returns) => returns.clone(),
        };
        let save = returns.contains(&SearchReturn::Save);
        let others = returns.iter().any(|r| *r != SearchReturn::Save);
        let (has_min, has_max) = (
            returns.contains(&SearchReturn::Min),
            returns.contains(&SearchReturn::Max),
        );
        let has = |r| returns.contains(&r);
        if save {
            // RFC 5182, 2.4: with only MIN or MAX, only those are saved.
            let narrow =
                (has_min || has_max) && !has(SearchReturn::All) && !has(SearchReturn::Count);
            let keep: UidSet = if narrow {
                let min = found.first().filter(|_| has_min);
                let max = found.last().filter(|_| has_max);
                min.into_iter().chain(max).map(|(_, uid)| *uid).collect()
            } else {
                found.iter().map(|(_, uid)| *uid).collect()
            };
            if let Some(selected) = self.selected.as_mut() {
                selected.saved = keep;
            }
        }
        if others {
            // The tag comes from `run`; ESEARCH names it, so it is written there.
            out.buf.extend_from_slice(b"* ESEARCH (TAG \"");
            out.buf.extend_from_slice(self.tag.as_bytes());
            out.buf.extend_from_slice(b"\")");
            if search.uid {
                out.buf.extend_from_slice(b" UID");
            }
            if let (true, Some(first)) = (has_min, found.first()) {
                let _ = write!(out.buf, " MIN {}", number(first));
            }
            if let (true, Some(last)) = (has_max, found.last()) {
                let _ = write!(out.buf, " MAX {}", number(last));
            }
            if has(SearchReturn::All) && !found.is_empty() {
                let all: UidSet = found.iter().map(number).collect();
                let _ = write!(out.buf, " ALL {all}");
            }
            if has(SearchReturn::Count) {
                let _ = write!(out.buf, " COUNT {}", found.len());
            }
            out.line("");
        }
        Ok("Searched".into())
    }

    /// After NO: where the result was to be saved, nothing is; else `$` stays as it was
    /// (RFC 5182, 2.1).
    pub(super) fn forget_saved(&mut self, save: bool) {
        if let Some(selected) = self.selected.as_mut().filter(|_| save) {
            selected.saved = UidSet::new();
        }
    }
}

struct Found<'a> {
    store: &'a Store,
    selected: &'a Selected,
    keywords: &'a [String],
    seq: u32,
    message: Message,
    record: OnceCell<Option<MessageRecord>>,
    raw: OnceCell<Option<bytes::Bytes>>,
    top: OnceCell<Option<bytes::Bytes>>,
}

impl Found<'_> {
    fn record(&self) -> Option<&MessageRecord> {
        let read = || {
            self.store
                .message(self.selected.key, self.message.uid)
                .ok()
                .flatten()
        };
        self.record.get_or_init(read).as_ref()
    }

    fn text(&self) -> Option<Text<'_>> {
        self.record().map(|record| Text {
            store: self.store,
            mailbox: self.selected.key,
            uid: self.message.uid,
            record,
        })
    }

    fn raw(&self) -> &[u8] {
        let read = || self.text().and_then(|text| text.whole().ok());
        self.raw.get_or_init(read).as_deref().unwrap_or_default()
    }

    /// Enough of it to have the whole header.
    fn top(&self) -> &[u8] {
        let read = || self.text().and_then(|text| text.top().ok());
        self.top.get_or_init(read).as_deref().unwrap_or_default()
    }
}

impl Candidate for Found<'_> {
    fn seq(&self) -> u32 {
        self.seq
    }
    fn uid(&self) -> u32 {
        self.message.uid.0
    }
    fn flags(&self) -> Flags {
        self.message.flags
    }
    fn recent(&self) -> bool {
        self.selected.is_recent(self.message.uid)
    }
    fn keyword_bit(&self, name: &str) -> Option<u32> {
        let at = self
            .keywords
            .iter()
            .position(|k| k.eq_ignore_ascii_case(name))?;
        u32::try_from(at).ok()
    }
    fn internal(&self) -> Option<(i64, i16)> {
        self.record()
            .map(|r| (r.internal_date.signed(), r.internal_zone))
    }
    fn sent_day(&self) -> Option<i32> {
        mail::sent_date(self.top()).map(|date| date.local_day())
    }
    fn size(&self) -> Option<u64> {
        self.record().map(|r| r.size)
    }
    fn header_contains(&self, name: &str, needle: &str) -> bool {
        mail::header_contains(self.top(), name, needle)
    }
    fn address_contains(&self, name: &str, needle: &str) -> bool {
        mail::address_contains(self.top(), name, needle)
    }
    fn body_contains(&self, needle: &str) -> bool {
        mail::search_text(self.raw(), SearchScope::Body, needle)
    }
    fn text_contains(&self, needle: &str) -> bool {
        mail::search_text(self.raw(), SearchScope::Text, needle)
    }
}
