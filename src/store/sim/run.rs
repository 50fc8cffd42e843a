//! Carries a history out on a real store, and holds what is seen against the model.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::join_in_order;
use parking_lot::Mutex;

use super::super::error::StoreError;
use super::super::handle::Store;
use super::super::options::Options;
use super::super::queue::Message;
use super::super::recovery;
use super::act::{carry_out, key};
use super::look::look;
use super::model::{Op, State, Told};
use super::plan::{Kind, Planner};
use super::rng::Rng;
use super::world::{Fault, Machine};
use crate::config::StoreConfig;
use crate::telemetry::Telemetry;
use crate::types::Uid;

const SEGMENT: u64 = 24 * 1024;
const DIR: &str = "/sim";

mod futures {
    use std::pin::Pin;
    use std::task::Poll;

    /// All at once: each is begun before any is waited for, in this order.
    pub(super) async fn join_in_order<F: Future<Output = ()>>(all: Vec<F>) {
        let mut all: Vec<Option<Pin<Box<F>>>> =
            all.into_iter().map(|f| Some(Box::pin(f))).collect();
        std::future::poll_fn(move |context| {
            for slot in &mut all {
                if let Some(future) = slot
                    && future.as_mut().poll(context).is_ready()
                {
                    *slot = None;
                }
            }
            match all.iter().all(Option::is_none) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

pub(super) fn open(machine: &Machine, kind: Kind) -> Result<Store, String> {
    let lively = matches!(kind, Kind::Crowd | Kind::Faults);
    let options = Options {
        dir: DIR.into(),
        config: StoreConfig {
            segment_bytes: SEGMENT,
            reserve_bytes: 0,
            checkpoint_millis: if lively { 15 } else { 3_600_000 },
            ..StoreConfig::default()
        },
        subaddress_separator: '+',
    };
    machine.disk().create_dir(DIR.as_ref()).unwrap();
    let lock = std::fs::File::open("/dev/null").unwrap();
    let telemetry = Telemetry::new().unwrap();
    if kind == Kind::Crowd {
        machine.delay(Rng(machine.steps()));
    }
    recovery::open_on(machine.disk(), machine.engines(), lock, options, telemetry)
        .and_then(Store::start)
        .map_err(|error| format!("the store does not open: {error}"))
}

/// A store while its history goes on.
pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) store: Store,
    pub(super) state: State,
    pub(super) planner: Planner,
    /// What was done, for whoever looks for a mistake.
    pub(super) past: Vec<String>,
}

fn shorten(text: String) -> String {
    text.chars().take(600).collect()
}

impl Run {
    fn kind(&self) -> Kind {
        self.planner.kind
    }

    /// `first`: what is done before anything else.
    pub(super) async fn go_on(&mut self, first: Vec<Op>, count: usize) -> Result<(), String> {
        for op in first {
            self.alone(op).await?;
        }
        for _ in 0..count {
            if self.kind() == Kind::Faults {
                self.plan_fault();
            }
            if self.kind() == Kind::Crowd && self.planner.rng.one_in(2) {
                let ops = self.planner.together(&self.state);
                self.together(ops).await?;
                continue;
            }
            let end = self.store.shared().ring.end();
            let op = self.planner.next(&self.state, end);
            self.alone(op).await?;
            if self.kind() == Kind::Plain && self.planner.rng.one_in(8) {
                self.misread()?;
            }
        }
        Ok(())
    }

    fn plan_fault(&mut self) {
        let rng = &mut self.planner.rng;
        if rng.one_in(3) {
            let fault = match rng.below(24) {
                0..=15 => Fault::Broken,
                16..=22 => Fault::Full,
                _ => Fault::Dead,
            };
            self.machine.fail(1 + rng.below(6) as u64, fault);
        }
    }

    async fn alone(&mut self, op: Op) -> Result<(), String> {
        self.past.push(shorten(format!("{op:?}")));
        let want = self.state.done(&op);
        let (states, uids) = match want {
            Some((mut states, uids)) => {
                states.insert(0, self.state.clone());
                (states, Some(uids))
            }
            None => (vec![self.state.clone()], None),
        };
        let states = Arc::new(states);
        self.machine.tell(Told {
            states: states.clone(),
            from: 0,
        });
        if matches!(op, Op::Reopen) {
            self.store.close().await;
            self.machine.no_more_faults();
            if !self.machine.is_dead() {
                self.store = open(&self.machine, self.kind())?;
            }
        }
        let machine = self.machine.clone();
        let given_up = async {
            // A group that is durable is answered when the index is there again, which is never.
            while !machine.is_dead() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        let done = tokio::select! {
            done = carry_out(&self.store, &self.state, &op) => done,
            () = given_up => Err(StoreError::Closed),
        };
        let upkeep = matches!(op, Op::Image | Op::Compact);
        match (&done, &uids) {
            (Ok(given), Some(uids)) if given == uids => {}
            (Err(error), None) if !error.is_temporary() => {}
            (Err(_), _) if upkeep => {}
            (Err(error), _) if error.is_temporary() && self.kind() == Kind::Faults => {
                return self.after_failure(&states).await;
            }
            _ => return Err(format!("{op:?}: want {uids:?}, got {done:?}")),
        }
        self.quiet().await;
        let last = states.last().cloned().unwrap_or_default();
        let changed = states.len() > 1 && last != self.state;
        if self.machine.is_dead() && changed && done.is_ok() {
            return Err(format!("{op:?} was answered by a store without a disk"));
        }
        self.observe(&[last]).await
    }

    /// So that a history is the same each time, the next segment is waited for.
    async fn quiet(&self) {
        let log = Path::new(DIR).join("log");
        for _ in 0..100 {
            if self.kind() == Kind::Faults || self.machine.is_quiet(&log, SEGMENT) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A body that can't be read now can be read later, and is never another one.
    fn misread(&mut self) -> Result<(), String> {
        let all = self.state.accounts.iter().flat_map(|(address, account)| {
            let boxes = account.boxes.values();
            boxes.flat_map(move |m| {
                m.messages
                    .keys()
                    .map(move |uid| (address.clone(), m.id, *uid))
            })
        });
        let all: Vec<_> = all.collect();
        let Some((account, mailbox, uid)) = self.planner.rng.pick(&all).cloned() else {
            return Ok(());
        };
        let place = (account, mailbox);
        let want = self
            .state
            .mailbox(&place)
            .and_then(|m| m.messages[&uid].body);
        let (key, uid) = (key(&self.state, &place), Uid(uid));
        let text = |error: StoreError| format!("reading {key:?} {uid:?}: {error}");
        let record = self.store.message(key, uid).map_err(text)?;
        let blob = record.ok_or("a message is not there")?.blob;
        self.machine.fail_read();
        for last in [false, true] {
            match self.store.body_range(key, uid, blob, 0..u64::MAX) {
                Ok(raw) if want == Some((raw.len() as u64, crc32fast::hash(&raw))) => {}
                Err(StoreError::DamagedBody) if !last => {}
                other => return Err(format!("{key:?} {uid:?} when it can't be read: {other:?}")),
            }
        }
        Ok(())
    }

    /// It failed for now: all of it, or of many slices the later ones.
    async fn after_failure(&mut self, states: &Arc<Vec<State>>) -> Result<(), String> {
        self.past.push("it failed".into());
        if self.machine.is_dead() {
            return Ok(());
        }
        self.mended().await?;
        self.observe(states).await
    }

    async fn mended(&self) -> Result<(), String> {
        for _ in 0..4000 {
            let shared = self.store.shared();
            if self.machine.is_dead() || (shared.is_writable() && !shared.rebuild_is_wanted()) {
                return Ok(());
            }
            let _ = self.store.inner_queue().send(Message::Tend).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err("the store does not mend".into())
    }

    /// What is seen is one of these.
    async fn observe(&mut self, among: &[State]) -> Result<(), String> {
        if self.machine.is_dead() {
            return Ok(());
        }
        if self.kind() == Kind::Faults {
            self.mended().await?;
        }
        let seen = match look(&self.store, false) {
            // What works beside may be the one to meet it.
            Err(_) if self.machine.is_dead() => return Ok(()),
            seen => seen.map_err(|error| format!("reading: {error}"))?,
        };
        self.state = one_of(among, &seen)?;
        self.machine.tell(Told::one(self.state.clone()));
        Ok(())
    }

    async fn together(&mut self, ops: Vec<Op>) -> Result<(), String> {
        let mut states = vec![self.state.clone()];
        // Where in `states` each has been done.
        let mut ends = Vec::new();
        let mut wants = Vec::new();
        for op in &ops {
            let before = states.last().cloned().unwrap_or_default();
            match before.done(op) {
                Some((after, uids)) => {
                    states.extend(after);
                    wants.push(Some(uids));
                }
                None => wants.push(None),
            }
            ends.push(states.len() - 1);
        }
        self.past
            .extend(ops.iter().map(|op| shorten(format!("  {op:?}"))));
        let states = Arc::new(states);
        let tell = |from: usize| {
            let states = states.clone();
            self.machine.tell(Told { states, from });
        };
        tell(0);
        let answered = AtomicUsize::new(0);
        let wrong = Mutex::new(Vec::new());
        let all = ops.iter().enumerate().map(|(n, op)| {
            let (tell, answered, wrong) = (&tell, &answered, &wrong);
            let (want, end, state, store) = (&wants[n], ends[n], &self.state, &self.store);
            async move {
                let done = carry_out(store, state, op).await;
                match (&done, want) {
                    (Ok(given), Some(uids)) if given == uids => {}
                    (Err(error), None) if !error.is_temporary() => {}
                    _ => wrong
                        .lock()
                        .push(format!("{op:?}: want {want:?}, got {done:?}")),
                }
                // One that is refused is answered with those before it.
                if done.is_ok() && answered.fetch_max(end, Ordering::AcqRel) < end {
                    tell(end);
                }
            }
        });
        join_in_order(all.collect()).await;
        if let Some(first) = wrong.into_inner().into_iter().next() {
            return Err(first);
        }
        let last = states.last().cloned().unwrap_or_default();
        self.observe(&[last]).await
    }
}

/// The newest of `among` that agrees with what is seen.
pub(super) fn one_of(among: &[State], seen: &State) -> Result<State, String> {
    let mut why = Vec::new();
    for state in among.iter().rev() {
        match state.agrees(seen) {
            Ok(state) => return Ok(state),
            Err(reason) => why.push(reason),
        }
    }
    Err(shorten_all(&why))
}

fn shorten_all(why: &[String]) -> String {
    let some = why
        .iter()
        .take(3)
        .map(|text| text.chars().take(3000).collect::<String>());
    let some: Vec<String> = some.collect();
    format!(
        "{} states, and none is what is seen:\n  {}",
        why.len(),
        some.join("\n  ")
    )
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn planner(rng: &Rng, kind: Kind, salt: u64) -> Planner {
    Planner {
        rng: rng.branch(salt),
        kind,
        bodies: 0,
    }
}
