//! Indexes of which it is known what a power cut may leave: batches since the last checkpoint
//! go from the end, each as a whole; and what damage may do to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::engine::APPLIED_KEY;
use super::rng::Rng;

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Earlier checkpoints that may come back as damage.
const OLDER: usize = 3;

#[derive(Clone, Debug, Default)]
struct Generation {
    durable: Arc<Map>,
    older: Vec<Arc<Map>>,
    batches: Vec<Arc<Writes>>,
    broken: bool,
}

/// All that are in the directory, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    all: BTreeMap<u64, Generation>,
    /// Moved aside by a rename that nobody synced.
    retired: Option<(u64, Generation)>,
    next: u64,
}

/// What happens to the index in a crash, beside what a power cut does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    None,
    /// Single records are gone without an error.
    Records,
    /// It does not open.
    Broken,
    /// An earlier checkpoint is back.
    Stale,
    /// It is not there.
    Gone,
}

fn apply(map: &mut Map, writes: &Writes) {
    for (key, value) in writes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

impl Indexes {
    /// The one that serves: the oldest.
    pub(super) fn serving(&mut self) -> u64 {
        match self.all.first_key_value() {
            Some((number, _)) => *number,
            None => self.fresh(),
        }
    }

    pub(super) fn fresh(&mut self) -> u64 {
        let serving = self.all.first_key_value().map(|(number, _)| *number);
        self.all.retain(|number, _| Some(*number) == serving);
        let number = self.next;
        self.next += 1;
        self.all.insert(number, Generation::default());
        number
    }

    pub(super) fn retire(&mut self) {
        while self.all.len() > 1 {
            self.retired = self.all.pop_first();
        }
    }

    pub(super) fn content(&self, number: u64) -> Option<Map> {
        let found = self.all.get(&number).filter(|found| !found.broken)?;
        let mut map = (*found.durable).clone();
        found
            .batches
            .iter()
            .for_each(|batch| apply(&mut map, batch));
        Some(map)
    }

    pub(super) fn applied(&mut self, number: u64, batch: Writes) {
        if let Some(found) = self.all.get_mut(&number) {
            found.batches.push(Arc::new(batch));
        }
    }

    pub(super) fn checkpoint(&mut self, number: u64, map: &Arc<Map>) {
        if let Some(found) = self.all.get_mut(&number) {
            let before = std::mem::replace(&mut found.durable, map.clone());
            found.older.push(before);
            if found.older.len() > OLDER {
                found.older.remove(0);
            }
            found.batches.clear();
        }
    }

    pub(super) fn after_crash(&self, harm: Harm, rng: &mut Rng) -> Self {
        let mut left = self.clone();
        if let Some((number, before)) = left.retired.take()
            && rng.one_in(6)
        {
            left.all.insert(number, before);
        }
        let mode = rng.below(3);
        for found in left.all.values_mut() {
            let kept = match mode {
                0 => found.batches.len(),
                1 => 0,
                _ => rng.below(found.batches.len() + 1),
            };
            found.batches.truncate(kept);
            let mut map = (*found.durable).clone();
            found
                .batches
                .drain(..)
                .for_each(|batch| apply(&mut map, &batch));
            found.durable = Arc::new(map);
        }
        let serving = left.serving();
        let Some(found) = left.all.get_mut(&serving) else {
            return left;
        };
        match harm {
            Harm::None => {}
            Harm::Records => {
                let mut keys: Vec<_> = found.durable.keys().cloned().collect();
                // Where it stands is no record: to lose it is to lose all.
                keys.retain(|key| key != APPLIED_KEY);
                let mut map = (*found.durable).clone();
                for _ in 0..=rng.below(3) {
                    if let Some(key) = rng.pick(&keys) {
                        map.remove(key);
                    }
                }
                found.durable = Arc::new(map);
            }
            Harm::Broken => found.broken = true,
            Harm::Stale => {
                if let Some(older) = rng.pick(&found.older) {
                    found.durable = older.clone();
                }
            }
            Harm::Gone => left.all.clear(),
        }
        left
    }
}
