use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::MemoryIndex;
use super::*;
use crate::types::LogPos;

fn at(seq: u64) -> Applied {
    Applied {
        store: [7; 16],
        at: LogPos {
            segment: 1,
            offset: seq,
        },
        seq,
    }
}

/// Takes batches only while the gate is open, and fails when told to.
#[derive(Default)]
struct Gated {
    map: MemoryIndex,
    gate: Mutex<(bool, bool)>,
    opened: Condvar,
}

impl Gated {
    fn set(&self, shut: bool, broken: bool) {
        *self.gate.lock() = (shut, broken);
        self.opened.notify_all();
    }
}

impl Index for Gated {
    fn apply(&self, batch: Batch, applied: Applied) -> Result<(), IndexError> {
        let mut gate = self.gate.lock();
        while gate.0 {
            self.opened.wait(&mut gate);
        }
        match gate.1 {
            true => Err(IndexError::Engine("no room (os error 28)".into())),
            false => self.map.apply(batch, applied),
        }
    }
    fn load(&self, batch: Batch) -> Result<(), IndexError> {
        self.map.load(batch)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.map.get(key)
    }
    fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexError> {
        self.map.scan(prefix, from, each)
    }
    fn applied(&self) -> Result<Option<Applied>, IndexError> {
        self.map.applied()
    }
    fn checkpoint(&self) -> Result<(), IndexError> {
        Ok(())
    }
    fn size_on_disk(&self) -> u64 {
        0
    }
}

fn all(index: &dyn Index, prefix: &[u8], from: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut each = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        true
    };
    index.scan(prefix, from, &mut each).unwrap();
    found
}

proptest! {
    #[test]
    fn reads_as_if_all_were_written(
        steps in proptest::collection::vec(
            (proptest::collection::vec((0u8..3, 0u8..12, any::<Option<u8>>()), 0..9), 0u8..8),
            1..40,
        ),
    ) {
        let engine = Arc::new(Gated::default());
        let index = Lagging::over(engine.clone(), 1 << 20).unwrap();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (seq, (writes, gate)) in (1u64..).zip(steps) {
            match gate {
                0 => engine.set(true, false),
                1 => engine.set(false, false),
                2 => {
                    engine.set(false, false);
                    index.checkpoint().unwrap();
                    prop_assert_eq!(engine.applied().unwrap(), index.applied().unwrap());
                    prop_assert_eq!(all(&*engine, b"", None).into_iter()
                        .filter(|(k, _)| k[0] != super::super::NAMESPACE).count(), model.len());
                }
                _ => {}
            }
            let mut batch = Batch::new();
            for (a, b, value) in writes {
                let (key, value) = (vec![b'a' + a, b], value.map(|v| vec![v; 3]));
                match &value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(&key),
                };
                batch.push((key, value));
            }
            index.apply(batch, at(seq)).unwrap();
            prop_assert_eq!(index.applied().unwrap(), Some(at(seq)));
            for prefix in [b"a", b"b", b"c"] {
                let from = [prefix[0], 5];
                for from in [None, Some(&from[..])] {
                    let start = from.unwrap_or(prefix).to_vec();
                    let wanted: Vec<_> = model.range(start..)
                        .take_while(|(k, _)| k.starts_with(prefix))
                        .map(|(k, v)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(all(&*index, prefix, from), wanted);
                }
                for n in 0..12 {
                    let key = [prefix[0], n];
                    let got = index.get(&key).unwrap();
                    prop_assert_eq!(got.as_ref(), model.get(&key[..]));
                }
            }
        }
        engine.set(false, false);
        drop(index);
        let kept: BTreeMap<_, _> = all(&*engine, b"", None).into_iter()
            .filter(|(k, _)| k[0] != super::super::NAMESPACE).collect();
        prop_assert_eq!(kept, model);
    }
}

#[test]
fn who_brings_too_much_waits() {
    let engine = Arc::new(Gated::default());
    engine.set(true, false);
    let index = Lagging::over(engine.clone(), 4096).unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let (own, count) = (index.clone(), done.clone());
    let writer = std::thread::spawn(move || {
        for seq in 1..=40u64 {
            let write = (seq.to_be_bytes().to_vec(), Some(vec![1; 1000]));
            own.apply(vec![write], at(seq)).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    while done.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(done.load(Ordering::SeqCst) < 8, "bounded");
    engine.set(false, false);
    writer.join().unwrap();
    index.checkpoint().unwrap();
    assert_eq!(engine.applied().unwrap(), Some(at(40)));
}

#[test]
fn after_a_failure_all_can_be_read_and_nothing_is_applied() {
    let engine = Arc::new(Gated::default());
    engine.set(true, true);
    let index = Lagging::over(engine.clone(), 1 << 20).unwrap();
    index
        .apply(vec![(b"a".to_vec(), Some(b"1".to_vec()))], at(1))
        .unwrap();
    engine.set(false, true);
    let failed = index.checkpoint().unwrap_err();
    assert!(failed.is_resource(), "{failed}");
    let again = index.apply(vec![(b"b".to_vec(), Some(b"2".to_vec()))], at(2));
    assert!(again.unwrap_err().is_resource());
    assert_eq!(index.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(all(&*index, b"a", None).len(), 1);
    assert_eq!(engine.applied().unwrap(), None);
}

#[test]
fn a_scan_keeps_what_leaves_while_it_reads() {
    let engine = Arc::new(Gated::default());
    engine.set(true, false);
    let index = Lagging::over(engine.clone(), 1 << 20).unwrap();
    let keys: Vec<Vec<u8>> = (0..200u8).map(|n| vec![b'a', n]).collect();
    let batch = keys.iter().map(|key| (key.clone(), Some(vec![9])));
    index.apply(batch.collect(), at(1)).unwrap();
    let mut found = Vec::new();
    let mut each = |key: &[u8], _: &[u8]| {
        if found.is_empty() {
            engine.set(false, false);
            index.checkpoint().unwrap();
        }
        found.push(key.to_vec());
        true
    };
    index.scan(b"a", None, &mut each).unwrap();
    assert_eq!(found, keys);
}

#[test]
fn what_was_just_written_is_told_while_the_engine_is_busy() {
    let engine = Arc::new(Gated::default());
    let index = Lagging::over(engine.clone(), 1 << 20).unwrap();
    let one = |n: u8, value: Option<u8>| (vec![b'a', n], value.map(|v| vec![v]));
    index
        .apply((0..9).map(|n| one(n, Some(1))).collect(), at(1))
        .unwrap();
    index.checkpoint().unwrap();
    engine.set(true, false);
    index
        .apply(vec![one(3, Some(2)), one(4, None)], at(2))
        .unwrap();
    let told = |n: u8| {
        let mut told = None;
        let known = index.recent(&[b'a', n], &mut |v| told = v.map(<[u8]>::to_vec));
        known.then_some(told)
    };
    assert_eq!(told(2), Some(Some(vec![1])), "the engine has it");
    assert_eq!(told(3), Some(Some(vec![2])));
    assert_eq!(told(4), Some(None));
    assert_eq!(told(9), None);
    engine.set(false, false);
    index.checkpoint().unwrap();
    assert_eq!(told(3), Some(Some(vec![2])), "small ones too, behind it");
    assert_eq!(told(4), Some(None));
}
