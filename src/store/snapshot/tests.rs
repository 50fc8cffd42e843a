//! Snapshots against a plain list, and what a load must notice.

use super::*;

fn flags(bits: u16, keywords: u64) -> Flags {
    Flags {
        system: SystemFlags(bits),
        keywords,
    }
}

#[test]
fn numbers_and_diffs_agree_with_a_list() {
    let mut now = Snapshot::empty(UidValidity(9));
    for uid in 1..=300 {
        now.add(
            Uid(uid),
            flags((uid % 2) as u16, u64::from(uid % 70 == 0)),
            ModSeq(2),
            10,
        );
    }
    let before = now.clone();
    let gone: Vec<_> = (1..=300)
        .filter(|u| u % 3 == 0)
        .map(|u| (Uid(u), 10))
        .collect();
    now.remove(&gone, ModSeq(3));
    now.set(Uid(100), flags(9, 2), ModSeq(4));
    now.add(Uid(301), flags(0, 0), ModSeq(5), 10);
    let left: Vec<u32> = (1..=301).filter(|u| u % 3 != 0 || *u == 301).collect();
    assert_eq!(now.len() as usize, left.len());
    for (seq, uid) in (1..).zip(&left) {
        assert_eq!(now.seq_of(Uid(*uid)), Some(seq));
        assert_eq!(now.by_seq(seq).map(|m| m.uid.0), Some(*uid));
    }
    assert_eq!(
        (now.by_seq(0), now.by_seq(left.len() as u32 + 1)),
        (None, None)
    );
    let diff = before.diff(&now);
    assert_eq!(diff.expunged.len(), 100);
    assert_eq!(
        diff.changed.iter().map(|m| m.uid.0).collect::<Vec<_>>(),
        [100]
    );
    assert_eq!(
        diff.added.iter().map(|m| m.uid.0).collect::<Vec<_>>(),
        [301]
    );
    let seen: Vec<u32> = now.range(60..=130).map(|(_, m)| m.uid.0).collect();
    let expected: Vec<u32> = left
        .iter()
        .copied()
        .filter(|u| (60..=130).contains(u))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(now.record.bytes, 10 * u64::from(now.len()));
    let messages = Messages {
        count: now.len(),
        uid_sum: now.record.uid_sum,
        bytes: now.record.bytes,
    };
    let load = |record, skip, messages| {
        let slots = now.slots.iter().skip(skip);
        let chunks = slots.map(|s| (s.base, (*s.chunk).clone())).collect();
        Snapshot::load(record, vec!["$a".into(), "$b".into()], chunks, messages)
    };
    let mut record = now.record;
    record.keywords = 2;
    assert!(load(record, 0, messages).is_some());
    assert!(
        load(record, 1, messages).is_none(),
        "a lost chunk is noticed"
    );
    let short = Messages {
        bytes: messages.bytes - 10,
        ..messages
    };
    let fewer = Messages {
        count: messages.count - 1,
        ..messages
    };
    for messages in [short, fewer] {
        assert!(
            load(record, 0, messages).is_none(),
            "a lost message is noticed"
        );
    }
    let mut low = record;
    low.uid_next = Uid(301);
    assert!(
        load(low, 0, messages).is_none(),
        "a UID must not come again"
    );
    let mut names = record;
    names.keywords = 3;
    assert!(
        load(names, 0, messages).is_none(),
        "a lost keyword is noticed"
    );
}
