//! Results that are kept up to date (RFC 5267, 4.3): which messages come to a result and which
//! leave it is told with the event that makes them do so.
//!
//! May import: store, types.
//!
//! Invariant: positions and numbers that are told fit what the client was told before. What
//! leaves because it was expunged is told before the EXPUNGE, everything else once numbering
//! and flags are those that the client knows.

use std::io::Write as _;
use std::sync::Arc;

use super::answer::InOrder;
use super::search::{Hit, Scene};
use super::{Answer, Exec, Gone, Out, Refusal};
use crate::imap::command::{Search, SearchKey, SearchReturn, SeqNumber, SequenceSet};
use crate::imap::search::resolve;
use crate::store::Snapshot;
use crate::types::{Uid, UidSet};

/// The contexts of a selected mailbox.
#[derive(Default)]
pub struct Contexts(Vec<Context>);

struct Context {
    tag: String,
    /// As ESEARCH names it.
    correlator: Vec<u8>,
    search: Search,
    /// What the result was made of.
    seen: Arc<Snapshot>,
    result: Kept,
}

enum Kept {
    /// In the mailbox's order.
    Set(UidSet),
    /// In the order that was asked for: UIDs and their scores.
    Order(Vec<(u32, u8)>),
}

/// Changes of a result, in the form of ADDTO and REMOVEFROM.
#[derive(Default)]
struct Pairs(Vec<u8>);

impl Pairs {
    fn push(&mut self, position: usize, numbers: impl Iterator<Item = u32>) {
        if !self.0.is_empty() {
            self.0.push(b' ');
        }
        let _ = write!(self.0, "{position} ");
        self.0.extend_from_slice(&InOrder::of(numbers));
    }

    /// Places of a result that are one behind the other are one pair. Rising positions.
    fn runs(places: &[usize]) -> Vec<std::ops::Range<usize>> {
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some(run) if run.end == *place => run.end += 1,
                _ => runs.push(*place..place + 1),
            }
        }
        runs
    }
}

impl Contexts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Before EXPUNGE of these is told: they leave the results (RFC 5267, 4.3.4).
    pub fn expunged(&mut self, gone: &[Uid], numbering: &Snapshot, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            return;
        }
        let gone: UidSet = gone.iter().map(|uid| uid.0).collect();
        for context in &mut self.0 {
            context.remove(&gone, numbering, out);
        }
    }
}

impl Context {
    fn number(&self, uid: u32, numbering: &Snapshot) -> Option<u32> {
        if self.search.uid {
            return Some(uid);
        }
        numbering.seq_of(Uid(uid))
    }

    fn contains(&self, uid: u32) -> bool {
        match &self.result {
            Kept::Set(set) => set.contains(uid),
            Kept::Order(order) => order.iter().any(|(member, _)| *member == uid),
        }
    }

    fn tell(&self, what: &str, pairs: &Pairs, out: &mut Vec<u8>) {
        if pairs.0.is_empty() {
            return;
        }
        out.extend_from_slice(b"* ESEARCH (");
        out.extend_from_slice(&self.correlator);
        out.push(b')');
        if self.search.uid {
            out.extend_from_slice(b" UID");
        }
        let _ = write!(out, " {what} (");
        out.extend_from_slice(&pairs.0);
        out.extend_from_slice(b")\r\n");
    }

    fn remove(&mut self, gone: &UidSet, numbering: &Snapshot, out: &mut Vec<u8>) {
        let mut pairs = Pairs::default();
        match &self.result {
            Kept::Set(set) => {
                let left: Vec<u32> = gone.iter().filter(|uid| set.contains(*uid)).collect();
                if left.is_empty() {
                    return;
                }
                let numbers = left.iter().filter_map(|uid| self.number(*uid, numbering));
                pairs.push(0, numbers);
            }
            Kept::Order(order) => {
                let is_gone = |(_, (uid, _)): &(usize, &(u32, u8))| gone.contains(*uid);
                let places = order.iter().enumerate().filter(is_gone);
                let places: Vec<usize> = places.map(|(place, _)| place).collect();
                // From the end: positions before it stay as they are.
                for run in Pairs::runs(&places).into_iter().rev() {
                    let part = order.get(run.clone()).unwrap_or_default();
                    let numbers = part
                        .iter()
                        .filter_map(|(uid, _)| self.number(*uid, numbering));
                    pairs.push(run.start + 1, numbers);
                }
            }
        }
        self.tell("REMOVEFROM", &pairs, out);
        match &mut self.result {
            Kept::Set(set) => *set = set.iter().filter(|uid| !gone.contains(*uid)).collect(),
            Kept::Order(order) => order.retain(|(uid, _)| !gone.contains(*uid)),
        }
    }
}

impl Exec {
    /// Whether the result is to be kept up to date. A tag can stand for one result only.
    pub(super) fn may_update(&self, search: &Search) -> Result<bool, Refusal> {
        if !search.returns(SearchReturn::Update) {
            return Ok(false);
        }
        let contexts = &self.selected()?.contexts;
        if contexts.0.iter().any(|context| context.tag == self.tag) {
            return Err(Refusal::Bad("Tag reuse".into()));
        }
        Ok(true)
    }

    /// `found` was told. `correlator`: how updates name it, where not by the tag alone.
    pub(super) fn keep_updated(
        &mut self,
        search: &Search,
        scene: &Scene,
        found: &[Hit],
        correlator: Option<Vec<u8>>,
        out: &mut Out<'_>,
    ) -> Answer {
        let correlator = correlator.unwrap_or_else(|| self.correlator(None));
        let most = self.max_contexts;
        let tag = self.tag.clone();
        let Some(selected) = self.selected.as_mut() else {
            return Ok("Searched".into());
        };
        if selected.contexts.0.len() >= most {
            // RFC 5267, 4.3.1
            out.line(&format!("* NO [NOUPDATE \"{tag}\"] Too many contexts"));
            return Ok("Searched, will not notify".into());
        }
        let mut search = search.clone();
        search.key = fixed(&search.key, &scene.numbering, &selected.saved);
        selected.contexts.0.push(Context {
            tag,
            correlator,
            result: match search.sort {
                None => Kept::Set(found.iter().map(|hit| hit.uid).collect()),
                Some(_) => Kept::Order(found.iter().map(|hit| (hit.uid, hit.score)).collect()),
            },
            search,
            // What came since was not asked yet.
            seen: scene.numbering.clone(),
        });
        Ok("Searched, will notify".into())
    }

    pub(super) fn cancel_update(&mut self, tags: &[String]) -> Answer {
        let selected = self.selected.as_mut();
        let Some(selected) = selected else {
            return Err(Refusal::Bad("No mailbox is selected".into()));
        };
        let contexts = &mut selected.contexts.0;
        let known = |tag: &String| contexts.iter().any(|context| context.tag == *tag);
        if !tags.iter().all(known) {
            return Err(Refusal::Bad(
                "No result of that tag is kept up to date".into(),
            ));
        }
        contexts.retain(|context| !tags.contains(&context.tag));
        Ok("No further updates".into())
    }

    /// Tells what changed of the results, if what the client knows of the mailbox is the newest.
    pub async fn update_contexts(&mut self, out: &mut Out<'_>) -> Result<(), Gone> {
        let Some(selected) = self.selected.as_mut() else {
            return Ok(());
        };
        if selected.contexts.is_empty() || !selected.is_all_told() {
            return Ok(());
        }
        let mut contexts = std::mem::take(&mut selected.contexts);
        let mut scene = Scene::of(selected);
        scene.current = scene.numbering.clone();
        for context in &mut contexts.0 {
            if Arc::ptr_eq(&context.seen, &scene.numbering) {
                continue;
            }
            match Box::pin(self.update(context, &scene, out)).await {
                Ok(()) => context.seen = scene.numbering.clone(),
                Err(Refusal::Gone(gone)) => return Err(gone),
                Err(Refusal::No(text) | Refusal::Trouble(text) | Refusal::Bad(text)) => {
                    // It is tried again with the next event.
                    self.telemetry.imap.store_failed("search", &text);
                }
            }
        }
        if let Some(selected) = self.selected.as_mut() {
            selected.contexts = contexts;
        }
        Ok(())
    }

    async fn update(
        &mut self,
        context: &mut Context,
        scene: &Scene,
        out: &mut Out<'_>,
    ) -> Result<(), Refusal> {
        let diff = context.seen.diff(&scene.numbering);
        let touched = diff.changed.iter().chain(&diff.added);
        let touched: UidSet = touched.map(|message| message.uid.0).collect();
        if touched.is_empty() {
            return Ok(());
        }
        let program = scene.compile(&context.search, self);
        let scored = context.search.is_scored();
        let hits = self
            .find_in(scene, &program, scored, Some(&touched), out)
            .await?;
        let matching: UidSet = hits.iter().map(|hit| hit.uid).collect();
        let left: UidSet = touched
            .iter()
            .filter(|uid| !matching.contains(*uid) && context.contains(*uid))
            .collect();
        if !left.is_empty() {
            context.remove(&left, &scene.numbering, &mut out.buf);
        }
        let new: Vec<Hit> = hits
            .into_iter()
            .filter(|hit| !context.contains(hit.uid))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        if !context.search.update.is_empty() {
            // RFC 5465, 7: of messages that have just arrived, and before ADDTO.
            let added: UidSet = diff.added.iter().map(|message| message.uid.0).collect();
            let arrived = new.iter().map(|hit| hit.uid);
            let arrived = arrived.filter(|uid| added.contains(*uid));
            let arrived = self.of_others(scene.key, arrived);
            self.tell_new(arrived, &context.search.update, out).await?;
        }
        let mut pairs = Pairs::default();
        let mut order = Vec::new();
        if let (Some(criteria), Kept::Order(known)) = (&context.search.sort, &context.result) {
            let news: UidSet = new.iter().map(|hit| hit.uid).collect();
            let hit = |(uid, score): &(u32, u8)| {
                let seq = scene.numbering.seq_of(Uid(*uid))?;
                let (uid, score) = (*uid, *score);
                Some(Hit { seq, uid, score })
            };
            let mut all: Vec<Hit> = known.iter().filter_map(hit).chain(new.clone()).collect();
            all.sort_by_key(|hit| hit.uid);
            let sorted = self.sorted(scene, criteria, all, out).await?;
            let places = sorted.iter().enumerate();
            let places = places.filter(|(_, hit)| news.contains(hit.uid));
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            // From the beginning: what is inserted later is behind.
            for run in Pairs::runs(&places) {
                let part = sorted.get(run.clone()).unwrap_or_default();
                let numbers = part
                    .iter()
                    .filter_map(|hit| context.number(hit.uid, &scene.numbering));
                pairs.push(run.start + 1, numbers);
            }
            order = sorted.iter().map(|hit| (hit.uid, hit.score)).collect();
        } else {
            let numbers = new.iter();
            pairs.push(
                0,
                numbers.filter_map(|hit| context.number(hit.uid, &scene.numbering)),
            );
        }
        context.tell("ADDTO", &pairs, &mut out.buf);
        match &mut context.result {
            Kept::Set(set) => new.iter().for_each(|hit| set.insert(hit.uid)),
            Kept::Order(known) => *known = order,
        }
        Ok(())
    }
}

/// With the message numbers and `$` that it names as the UIDs that they stand for now
/// (RFC 5267, 4.3). Nesting is bounded by the parser.
fn fixed(key: &SearchKey, numbering: &Snapshot, saved: &UidSet) -> SearchKey {
    let again = |key: &SearchKey| fixed(key, numbering, saved);
    let set = |uids: UidSet| {
        let number = SeqNumber::Number;
        let ranges = uids
            .ranges()
            .map(|r| (number(*r.start()), number(*r.end())));
        let ranges: Vec<_> = ranges.collect();
        match ranges.is_empty() {
            true => SearchKey::Not(Box::new(SearchKey::All)),
            false => SearchKey::Uid(SequenceSet::Ranges(ranges)),
        }
    };
    match key {
        SearchKey::Set(named) => {
            let numbers = resolve(named, numbering.len(), &UidSet::new());
            let message = |seq| numbering.by_seq(seq).map(|m| m.uid.0);
            let there = numbers
                .ranges()
                .flat_map(|r| *r.start()..=(*r.end()).min(numbering.len()));
            let saved = saved.iter().filter(|_| named.has_saved());
            set(there.filter_map(message).chain(saved).collect())
        }
        SearchKey::Uid(uids) => {
            let last = numbering.last_uid().map_or(0, |uid| uid.0);
            set(resolve(uids, last, saved))
        }
        SearchKey::And(keys) => SearchKey::And(keys.iter().map(again).collect()),
        SearchKey::Or(a, b) => SearchKey::Or(Box::new(again(a)), Box::new(again(b))),
        SearchKey::Not(inner) => SearchKey::Not(Box::new(again(inner))),
        SearchKey::Fuzzy(inner) => SearchKey::Fuzzy(Box::new(again(inner))),
        other => other.clone(),
    }
}
