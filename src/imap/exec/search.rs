//! SEARCH and its answers (RFC 9051, 6.4.4 and 7.3.4; RFC 4731; RFC 5182).

use std::cell::{Cell, OnceCell, RefCell};
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::sync::Selected;
use super::text::Message as Text;
use super::{Answer, Exec, Out, aside};
use crate::imap::command::{Search, SearchReturn};
use crate::imap::search::{Candidate, Program};
use crate::mail::{self, TextSearch};
use crate::store::{BodyPlace, Message, MessageRecord, Store, StoreError, Turn, Whose};
use crate::types::{Flags, UidSet};

/// How long a search looks at messages before others may run.
const TURN: Duration = Duration::from_millis(5);

impl Exec {
    pub(super) async fn search(&mut self, search: &Search, out: &mut Out<'_>) -> Answer {
        let selected = self.selected()?;
        let numbering = selected.numbering.clone();
        let (current, key) = (selected.current(), selected.key);
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
        let mut looked_at: Option<Found<'_>> = None;
        let mut place: Option<Turn> = None;
        let mut failed = None;
        let mut turn = |place: &mut Option<Turn>| {
            let began = Instant::now();
            loop {
                let candidate = match &mut looked_at {
                    Some(candidate) => candidate,
                    none => match all.next() {
                        None => return Stop::End,
                        Some((seq, told)) => {
                            // What is gone matches nothing (RFC 9051, 6.4.4 leaves it open).
                            let Some(message) = current.by_uid(told.uid) else {
                                continue;
                            };
                            none.insert(Found {
                                store: &self.store,
                                selected,
                                keywords: current.keywords(),
                                seq,
                                message,
                                pace: Pace::new(began, false),
                                failed: Cell::new(None),
                                record: OnceCell::new(),
                                raw: OnceCell::new(),
                                top: OnceCell::new(),
                                fields: RefCell::new(vec![None; program.fields()]),
                                words: RefCell::new(TextSearch::new(program.needles())),
                                place: BodyPlace::default(),
                            })
                        }
                    },
                };
                candidate.pace = Pace::new(began, place.is_some());
                let matches = program.matches(candidate, now);
                if let Some(error) = candidate.failed.take() {
                    failed = Some(error);
                    return Stop::End;
                }
                if let Some(stop) = candidate.pace.stop.get() {
                    // What was found out so far is kept: the same question goes on from there.
                    return stop;
                }
                if matches {
                    found.push((candidate.seq, candidate.message.uid.0));
                }
                looked_at = None;
                if place.take().is_some() || began.elapsed() >= TURN {
                    return Stop::Pause;
                }
            }
        };
        let heavy = program.reads_messages();
        loop {
            let stop = if heavy {
                aside(|| turn(&mut place))
            } else {
                turn(&mut place)
            };
            match stop {
                Stop::End => break,
                Stop::Pause => tokio::task::yield_now().await,
                Stop::Place => {
                    let whose = Whose::Account(key.account);
                    place = Some(self.store.large_reads().turn(whose).await);
                }
            }
            out.is_awaited(place.is_some()).await?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.answer(search, &found, out)
    }

    fn answer(&mut self, search: &Search, found: &[(u32, u32)], out: &mut Out<'_>) -> Answer {
        let number = |(seq, uid): &(u32, u32)| if search.uid { *uid } else { *seq };
        let returns = match &search.returns {
            None if self.enabled.rev2 => vec![SearchReturn::All],
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

/// Why a turn ends.
#[derive(Clone, Copy)]
enum Stop {
    /// All messages were looked at.
    End,
    /// Others may run.
    Pause,
    /// A large message is to be read, and that has its own turns.
    Place,
}

/// How long a message may be looked at in one turn.
struct Pace {
    began: Instant,
    has_place: bool,
    /// Something was done that takes time: no turn ends before.
    worked: Cell<bool>,
    stop: Cell<Option<Stop>>,
}

impl Pace {
    fn new(began: Instant, has_place: bool) -> Self {
        Self {
            began,
            has_place,
            worked: Cell::new(false),
            stop: Cell::new(None),
        }
    }

    /// Before each piece of work: false where it must wait for another turn. Then the answer
    /// that is given does not count.
    fn go_on(&self) -> bool {
        if self.stop.get().is_some() {
            return false;
        }
        if self.worked.replace(true) && self.began.elapsed() >= TURN {
            self.stop.set(Some(Stop::Pause));
            return false;
        }
        true
    }
}

struct Found<'a> {
    store: &'a Store,
    selected: &'a Selected,
    keywords: &'a [String],
    seq: u32,
    message: Message,
    pace: Pace,
    /// What could not be read for now: the answer that is given does not count.
    failed: Cell<Option<StoreError>>,
    record: OnceCell<Option<MessageRecord>>,
    raw: OnceCell<Option<bytes::Bytes>>,
    top: OnceCell<Option<bytes::Bytes>>,
    /// What keys that ask for fields were answered.
    fields: RefCell<Vec<Option<bool>>>,
    words: RefCell<TextSearch<'a>>,
    place: BodyPlace,
}

impl Found<'_> {
    fn record(&self) -> Option<&MessageRecord> {
        let read = || {
            let read = self.store.message(self.selected.key, self.message.uid);
            self.unless_failed(read).flatten()
        };
        self.record.get_or_init(read).as_ref()
    }

    /// A damaged body has no text to be found; of one that can't be read for now nobody can say.
    fn unless_failed<T>(&self, read: Result<T, StoreError>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(StoreError::DamagedBody | StoreError::Expunged) => {}
            Err(error) => self.failed.set(Some(error)),
        }
        None
    }

    fn text(&self) -> Option<Text<'_>> {
        self.record().map(|record| Text {
            store: self.store,
            mailbox: self.selected.key,
            uid: self.message.uid,
            record,
            place: &self.place,
            ahead: None,
            utf8: true,
        })
    }

    /// All of it. None: not in this turn.
    fn raw(&self) -> Option<&[u8]> {
        if self.raw.get().is_none() {
            let large = self.text().is_some_and(Text::is_large);
            if large && !self.pace.has_place {
                self.pace.stop.set(Some(Stop::Place));
                return None;
            }
        }
        let read = || self.text().and_then(|t| self.unless_failed(t.whole()));
        Some(self.raw.get_or_init(read).as_deref().unwrap_or_default())
    }

    /// Enough of it to have the whole header. None: not in this turn.
    fn top(&self) -> Option<&[u8]> {
        let read = || {
            let text = self.text()?;
            self.unless_failed(text.short_top()).flatten()
        };
        match self.top.get_or_init(read) {
            Some(top) => Some(top),
            None => self.raw(),
        }
    }

    fn field(&self, key: usize, contains: impl FnOnce(&[u8]) -> bool) -> bool {
        if let Some(Some(known)) = self.fields.borrow().get(key) {
            return *known;
        }
        if !self.pace.go_on() {
            return false;
        }
        let Some(top) = self.top() else {
            return false;
        };
        let answer = contains(top);
        if let Some(known) = self.fields.borrow_mut().get_mut(key) {
            *known = Some(answer);
        }
        answer
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
        mail::sent_date(self.top()?).map(|date| date.local_day())
    }
    fn size(&self) -> Option<u64> {
        self.record().map(|r| r.size)
    }
    fn header_contains(&self, key: usize, name: &str, needle: &str) -> bool {
        self.field(key, |top| mail::header_contains(top, name, needle))
    }
    fn address_contains(&self, key: usize, name: &str, needle: &str) -> bool {
        self.field(key, |top| mail::address_contains(top, name, needle))
    }
    fn contains(&self, needle: usize) -> bool {
        let mut words = self.words.borrow_mut();
        loop {
            if let Some(answer) = words.answer(needle) {
                return answer;
            }
            if !self.pace.go_on() {
                return false;
            }
            let Some(raw) = self.raw() else {
                return false;
            };
            words.step(raw);
        }
    }
}
