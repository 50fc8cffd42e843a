//! SEARCH: which messages match (RFC 9051, 6.4.4). `answer` says so.
//!
//! May import: store, mail, types.
//!
//! Each message is first glanced at: what is kept of it answers most questions. Only where that
//! does not do is it looked at, in turns, so that nobody waits long for others.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::keys::{Keys, Reader};
use super::narrow::Narrow;
use super::sync::Selected;
use super::text::Message as Text;
use super::{Answer, Exec, Out, Refusal, aside};
use crate::imap::command::Search;
use crate::imap::keys::{Facts, Field};
use crate::imap::search::{Candidate, Names, Program};
use crate::mail::{self, Fuzzy, TextSearch};
use crate::store::{BodyPlace, Message, MessageRecord, Snapshot, Store, StoreError, Turn, Whose};
use crate::types::{Flags, MailboxKey, UidSet};

/// How long a search looks at messages before others may run.
const TURN: Duration = Duration::from_millis(5);
/// Fewer messages are read sooner than the full-text index is asked for them.
const FEW: u64 = 16;
/// Messages that are glanced at between two looks at the clock.
const GLANCES: u32 = 16;

/// A message that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub seq: u32,
    pub uid: u32,
    /// How relevant it is, where that was asked for (RFC 6203, 4).
    pub score: u8,
}

/// The mailbox that is searched.
#[derive(Clone)]
pub(super) struct Scene {
    pub key: MailboxKey,
    /// Gives the numbers, and the messages that are asked.
    pub numbering: Arc<Snapshot>,
    /// Gives their flags. What is gone from it matches nothing (RFC 9051, 6.4.4 leaves it open).
    pub current: Arc<Snapshot>,
    /// Those before it are not looked at.
    pub from: u32,
    /// Which messages are recent is known of the selected mailbox only.
    pub is_selected: bool,
}

impl Scene {
    pub(super) fn of(selected: &Selected) -> Self {
        Self {
            key: selected.key,
            numbering: selected.numbering.clone(),
            current: selected.current(),
            from: 1,
            is_selected: true,
        }
    }

    /// A mailbox that is not selected, as it is now.
    pub(super) fn apart(key: MailboxKey, now: Arc<Snapshot>) -> Self {
        Self {
            key,
            numbering: now.clone(),
            current: now,
            from: 1,
            is_selected: false,
        }
    }

    pub(super) fn names<'a>(&'a self, saved: &'a UidSet) -> Names<'a> {
        Names {
            max_seq: self.numbering.len(),
            max_uid: self.numbering.last_uid().map_or(0, |u| u.0),
            saved,
            keywords: self.current.keywords(),
        }
    }

    /// What the search means here.
    pub(super) fn compile(&self, search: &Search, exec: &Exec) -> Program {
        let nothing = UidSet::new();
        let selected = exec.selected.as_ref().filter(|_| self.is_selected);
        let saved = selected.map_or(&nothing, |selected| &selected.saved);
        Program::compile(&search.key, self.names(saved))
    }
}

impl Exec {
    pub(super) async fn search(&mut self, search: &Search, out: &mut Out<'_>) -> Answer {
        let updates = self.may_update(search)?;
        let mut scene = Scene::of(self.selected()?);
        // SORT has no limit (RFC 9738, 3.3).
        if search.sort.is_none() {
            scene.from = self.search_from(&search.key);
        }
        let found = self.found_in(&scene, search, out).await?;
        let done = self.answer(search, &scene.current, &found, out)?;
        if !updates {
            return Ok(done);
        }
        self.keep_updated(search, &scene, &found, None, out)
    }

    /// The selected mailbox, and what matches in it, in the order that is asked for.
    pub(super) async fn matching(
        &self,
        search: &Search,
        out: &mut Out<'_>,
    ) -> Result<(Scene, Vec<Hit>), Refusal> {
        let scene = Scene::of(self.selected()?);
        let found = self.found_in(&scene, search, out).await?;
        Ok((scene, found))
    }

    pub(super) async fn found_in(
        &self,
        scene: &Scene,
        search: &Search,
        out: &mut Out<'_>,
    ) -> Result<Vec<Hit>, Refusal> {
        let program = scene.compile(search, self);
        let scored = search.is_scored();
        let found = self.find_in(scene, &program, scored, None, out).await?;
        match &search.sort {
            Some(criteria) => self.sorted(scene, criteria, found, out).await,
            None => Ok(found),
        }
    }

    pub(super) fn keys_of(&self, scene: &Scene) -> Keys {
        Keys::new(self.key_reader(scene.key, &scene.current))
    }

    pub(super) fn key_reader(&self, mailbox: MailboxKey, current: &Arc<Snapshot>) -> Reader {
        Reader {
            store: self.store.clone(),
            cache: self.keys.clone(),
            limit: self.key_cache_bytes,
            mailbox,
            current: current.clone(),
        }
    }

    /// What matches, in the order of the mailbox; with scores where `scored`. `among`: only
    /// these are looked at.
    pub(super) async fn find_in(
        &self,
        scene: &Scene,
        program: &Program,
        scored: bool,
        among: Option<&UidSet>,
        out: &mut Out<'_>,
    ) -> Result<Vec<Hit>, Refusal> {
        let mut hits: Vec<Hit> = Vec::new();
        let (first, last) = program.bounds().unwrap_or((1, u32::MAX));
        let first = first.max(scene.from);
        let whole = UidSet::from_ranges((first <= last).then_some((first, last)));
        let ranges = among.unwrap_or(&whole).ranges();
        let mut all = ranges.flat_map(|range| scene.numbering.range(range));
        let selected = self.selected.as_ref().filter(|_| scene.is_selected);
        let searching = Searching {
            store: &self.store,
            mailbox: scene.key,
            selected,
            now: self.store.now().signed(),
            narrow: match among.is_some_and(|among| among.len() < FEW) {
                true => Narrow::default(),
                false => Narrow::new(&self.store, scene.key, program),
            },
        };
        let unchanged = Arc::ptr_eq(&scene.numbering, &scene.current);
        let keys = Mutex::new(self.keys_of(scene));
        let mut deep: Option<Found<'_>> = None;
        let mut place: Option<Turn> = None;
        let mut failed = None;
        let mut reached = 0;
        let mut turn = |place: &mut Option<Turn>, reached: &mut u32| {
            let began = Instant::now();
            let mut glances = 0;
            loop {
                if let Some(found) = &deep {
                    let pace = Pace::new(began, place.is_some());
                    let looking =
                        searching.at(found.seq, found.message, &keys, Some((found, pace)));
                    let matches = program.matches(&looking, searching.now);
                    if let Some(error) = looking.failed.take() {
                        failed = Some(error);
                        return Stop::End;
                    }
                    if let Some(stop) = looking.stop() {
                        // What was found out so far is kept: the same question goes on from there.
                        return stop;
                    }
                    if matches == Some(true) {
                        hits.push(looking.hit(program, scored));
                    }
                    deep = None;
                    if place.take().is_some() || began.elapsed() >= TURN {
                        return Stop::Pause;
                    }
                }
                let Some((seq, told)) = all.next() else {
                    return Stop::End;
                };
                *reached = seq;
                let message = match unchanged {
                    true => Some(told),
                    false => scene.current.by_uid(told.uid),
                };
                let Some(message) = message else {
                    continue;
                };
                let looking = searching.at(seq, message, &keys, None);
                let matches = program.matches(&looking, searching.now);
                if let Some(error) = looking.failed.take() {
                    failed = Some(error);
                    return Stop::End;
                }
                match matches {
                    Some(true) => hits.push(looking.hit(program, scored)),
                    Some(false) => {}
                    None => deep = Some(Found::new(seq, message, program)),
                }
                glances += 1;
                if glances % GLANCES == 0 && began.elapsed() >= TURN {
                    return Stop::Pause;
                }
            }
        };
        let heavy = program.reads_messages();
        loop {
            let stop = if heavy {
                aside(|| turn(&mut place, &mut reached))
            } else {
                turn(&mut place, &mut reached)
            };
            match stop {
                Stop::End => break,
                Stop::Pause => tokio::task::yield_now().await,
                Stop::Place => {
                    let whose = Whose::Account(scene.key.account);
                    place = Some(self.store.large_reads().turn(whose).await);
                }
            }
            out.at(u64::from(reached), scene.numbering.len().into());
            out.is_awaited(place.is_some()).await?;
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(hits),
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

/// What stays the same while a mailbox is searched.
struct Searching<'a> {
    store: &'a Store,
    mailbox: MailboxKey,
    selected: Option<&'a Selected>,
    now: i64,
    narrow: Narrow,
}

impl<'a> Searching<'a> {
    fn at<'b>(
        &'b self,
        seq: u32,
        message: Message,
        keys: &'b Mutex<Keys>,
        deep: Option<(&'b Found<'a>, Pace)>,
    ) -> Looking<'a, 'b> {
        Looking {
            searching: self,
            seq,
            message,
            keys,
            deep,
            failed: Cell::new(None),
        }
    }
}

/// What was found out of a message that is looked at; it is kept from turn to turn.
struct Found<'a> {
    seq: u32,
    message: Message,
    record: OnceCell<Option<MessageRecord>>,
    raw: OnceCell<Option<bytes::Bytes>>,
    top: OnceCell<Option<bytes::Bytes>>,
    /// What keys that ask for fields were answered.
    fields: RefCell<Vec<Option<bool>>>,
    words: RefCell<TextSearch<'a>>,
    place: BodyPlace,
}

impl<'a> Found<'a> {
    fn new(seq: u32, message: Message, program: &'a Program) -> Self {
        Self {
            seq,
            message,
            record: OnceCell::new(),
            raw: OnceCell::new(),
            top: OnceCell::new(),
            fields: RefCell::new(vec![None; program.fields()]),
            words: RefCell::new(TextSearch::new(program.needles())),
            place: BodyPlace::default(),
        }
    }
}

/// A message, asked once.
struct Looking<'a, 'b> {
    searching: &'b Searching<'a>,
    seq: u32,
    message: Message,
    keys: &'b Mutex<Keys>,
    /// None: it is only glanced at.
    deep: Option<(&'b Found<'a>, Pace)>,
    /// What could not be read for now: the answer that is given does not count.
    failed: Cell<Option<StoreError>>,
}

impl<'b> Looking<'_, 'b> {
    fn hit(&self, program: &Program, scored: bool) -> Hit {
        Hit {
            seq: self.seq,
            uid: self.message.uid.0,
            score: if scored { program.score(self) } else { 0 },
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.deep.as_ref().and_then(|(_, pace)| pace.stop.get())
    }

    fn record(&self, found: &'b Found<'_>) -> Option<&'b MessageRecord> {
        let searching = self.searching;
        let read = || {
            let read = searching.store.message(searching.mailbox, self.message.uid);
            self.unless_failed(read).flatten()
        };
        found.record.get_or_init(read).as_ref()
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

    fn text(&self, found: &'b Found<'_>) -> Option<Text<'_>> {
        self.record(found).map(|record| Text {
            store: self.searching.store,
            mailbox: self.searching.mailbox,
            uid: self.message.uid,
            record,
            place: &found.place,
            ahead: None,
            utf8: true,
        })
    }

    /// All of it. None: not in this turn.
    fn raw(&self, found: &'b Found<'_>, pace: &Pace) -> Option<&'b [u8]> {
        if found.raw.get().is_none() {
            let large = self.text(found).is_some_and(Text::is_large);
            if large && !pace.has_place {
                pace.stop.set(Some(Stop::Place));
                return None;
            }
        }
        let read = || self.text(found).and_then(|t| self.unless_failed(t.whole()));
        Some(found.raw.get_or_init(read).as_deref().unwrap_or_default())
    }

    /// Enough of it to have the whole header. None: not in this turn.
    fn top(&self, found: &'b Found<'_>, pace: &Pace) -> Option<&'b [u8]> {
        let read = || {
            let text = self.text(found)?;
            self.unless_failed(text.short_top()).flatten()
        };
        match found.top.get_or_init(read) {
            Some(top) => Some(top),
            None => self.raw(found, pace),
        }
    }

    fn field(&self, key: usize, contains: impl FnOnce(&[u8]) -> bool) -> Option<bool> {
        if self.searching.narrow.field(key, self.message.uid) {
            return Some(false);
        }
        let (found, pace) = self.deep.as_ref()?;
        if let Some(Some(known)) = found.fields.borrow().get(key) {
            return Some(*known);
        }
        if !pace.go_on() {
            return None;
        }
        let answer = contains(self.top(found, pace)?);
        if let Some(known) = found.fields.borrow_mut().get_mut(key) {
            *known = Some(answer);
        }
        Some(answer)
    }
}

impl Candidate for Looking<'_, '_> {
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
        let selected = self.searching.selected;
        selected.is_some_and(|selected| selected.is_recent(self.message.uid))
    }
    fn facts(&self) -> Option<Facts> {
        let mut keys = self.keys.lock();
        let facts = keys.facts(self.message.uid).map(|facts| facts.copied());
        self.unless_failed(facts).flatten()
    }
    fn modseq(&self) -> u64 {
        self.message.modseq.0
    }
    fn sent_day(&self) -> Option<i32> {
        let mut keys = self.keys.lock();
        let texts = keys.texts(self.message.uid);
        let day = texts.map(|texts| texts.and_then(|t| t.sent).map(|(_, day)| day));
        self.unless_failed(day).flatten()
    }
    fn field_contains(&self, field: Field, needle: &str) -> Option<bool> {
        let mut keys = self.keys.lock();
        let texts = keys.texts(self.message.uid);
        let contains = texts.map(|t| t.map_or(Some(false), |t| t.contains(field, needle)));
        self.unless_failed(contains).flatten()
    }
    fn has_thread_id(&self, id: &str) -> bool {
        let mut keys = self.keys.lock();
        let links = keys.links(self.message.uid);
        let same = links.map(|links| links.is_some_and(|links| &*links.thread_id == id));
        self.unless_failed(same).unwrap_or_default()
    }
    fn header_contains(&self, key: usize, name: &str, needle: &str) -> Option<bool> {
        self.field(key, |top| mail::header_contains(top, name, needle))
    }
    fn address_contains(&self, key: usize, name: &str, needle: &str) -> Option<bool> {
        self.field(key, |top| mail::address_contains(top, name, needle))
    }
    fn contains(&self, needle: usize) -> Option<bool> {
        if self.searching.narrow.words(needle, self.message.uid) {
            return Some(false);
        }
        let (found, pace) = self.deep.as_ref()?;
        let mut words = found.words.borrow_mut();
        loop {
            if let Some(answer) = words.answer(needle) {
                return Some(answer);
            }
            if !pace.go_on() {
                return None;
            }
            words.step(self.raw(found, pace)?);
        }
    }
    fn field_score(&self, field: Field, words: &Fuzzy) -> u8 {
        let mut keys = self.keys.lock();
        let texts = keys.texts(self.message.uid);
        let score = texts.map(|texts| texts.map_or(0, |texts| texts.score(field, words)));
        self.unless_failed(score).unwrap_or_default()
    }
    fn score(&self, needle: usize) -> u8 {
        let found = self.deep.as_ref();
        found.map_or(1, |(found, _)| found.words.borrow().score(needle))
    }
}
