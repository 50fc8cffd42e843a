//! Append, read back, fail, recover.

use super::*;

#[test]
fn groups_come_back_with_their_bodies() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    assert!(opened.report.created);
    assert_eq!(opened.last_seq, 0);
    let none = opened.log.append(1, &[], b"only operations").unwrap();
    let blobs: Vec<BlobData> = (0..100).map(|n| blob(n, 3000 + n as usize)).collect();
    let many = opened
        .log
        .append(2, &blobs.iter().collect::<Vec<_>>(), b"many")
        .unwrap();
    assert!(none.end < many.end && opened.log.end() == many.end);
    let (found, report) = frames(&opened, START);
    assert_eq!(report.frames, 2);
    assert_eq!((report.damaged_bytes, report.missing_groups), (0, 0));
    assert_eq!((found[0].end, found[1].end), (none.end, many.end));
    assert_eq!(found[0].ops, b"only operations");
    let places: Vec<BlobPlace> = found[1].blobs.iter().map(|(_, place)| *place).collect();
    assert_eq!(places, many.places);
    for (n, place) in places.iter().enumerate() {
        let raw = opened.blobs.get(&id(n as u64), place, 0..u64::MAX).unwrap();
        assert_eq!(raw, body(n as u64, 3000 + n));
    }
    assert_eq!(frames(&opened, none.end).0[0].seq, 2);
    assert!(frames(&opened, many.end).0.is_empty());

    drop(opened);
    let opened = bench.open();
    assert!(!opened.report.created);
    assert_eq!((opened.last_seq, opened.end), (2, many.end));
    assert_eq!(seqs(&opened), [1, 2]);
    assert_eq!(opened.bytes, bench.len(1));
    for path in ["log", "log/seg-000000000001"] {
        let mode = std::fs::metadata(bench.dir.path().join(path)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o077, 0, "{path}");
    }
}

#[test]
fn reading_stops_when_told() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    for seq in 1..=5 {
        add(&mut *opened.log, seq, 10).unwrap();
    }
    let mut seen = 0;
    let report = opened.reader.read_from(START, None, &mut |frame| {
        seen = frame.seq;
        frame.seq < 3
    });
    assert_eq!((seen, report.unwrap().frames), (3, 3));
}

#[test]
fn numbers_must_grow() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 5, 10).unwrap();
    let again = add(&mut *opened.log, 5, 10);
    assert!(matches!(
        again,
        Err(LogError::OutOfOrder { given: 5, last: 5 })
    ));
    assert!(matches!(
        add(&mut *opened.log, 6, 10),
        Err(LogError::Poisoned)
    ));
    assert_eq!(opened.log.recover().unwrap().0, 5);
    add(&mut *opened.log, 7, 10).unwrap();
    let (found, report) = frames(&opened, START);
    assert_eq!(found.len(), 2);
    assert_eq!(report.missing_groups, 4 + 1);
}

#[test]
fn segments_roll_over() {
    let bench = Bench::new(20_000);
    let mut opened = bench.open();
    let mut last = START;
    for seq in 1..=50 {
        // One group is larger than a segment: it has one to itself.
        let len = if seq == 30 { 50_000 } else { 3000 };
        let end = add(&mut *opened.log, seq, len).unwrap().end;
        assert!(end > last);
        last = end;
    }
    let check = |opened: &Opened| {
        assert_eq!(seqs(opened), (1..=50).collect::<Vec<_>>());
        let (found, report) = frames(opened, START);
        assert_eq!((report.damaged_bytes, report.missing_groups), (0, 0));
        for frame in &found {
            let rest = frames(opened, frame.end).0;
            assert_eq!(rest.len() as u64, 50 - frame.seq);
            let len = if frame.seq == 30 { 50_000 } else { 3000 };
            let (blob_id, place) = frame.blobs[0];
            let raw = opened.blobs.get(&blob_id, &place, 0..len).unwrap();
            assert_eq!(raw, body(frame.seq, len as usize));
        }
    };
    check(&opened);
    assert!(last.segment >= 9);
    drop(opened);
    let mut opened = bench.open();
    check(&opened);
    assert_eq!((opened.end, opened.last_seq), (last, 50));
    // Goes on in the same file, and into the one that was prepared.
    for seq in 51..=60 {
        add(&mut *opened.log, seq, 3000).unwrap();
    }
    assert_eq!(seqs(&opened).len(), 60);
    drop(opened);
    assert_eq!(seqs(&bench.open()).len(), 60);
}

#[test]
fn a_failed_write_stops_the_log_until_it_is_recovered() {
    for fault in [
        Fault::Full,
        Fault::Tear(0),
        Fault::Tear(10),
        Fault::Tear(FRAME_HEADER + 30),
        Fault::Sync,
    ] {
        let bench = Bench::new(1 << 20);
        let faults = Faults::new([(2, fault)]);
        let mut opened = bench.faulty(faults.clone());
        add(&mut *opened.log, 1, 100).unwrap();
        let good = add(&mut *opened.log, 2, 100).unwrap().end;
        let error = add(&mut *opened.log, 3, 100).unwrap_err();
        assert_eq!(error.is_disk_full(), fault == Fault::Full);
        for _ in 0..2 {
            let refused = add(&mut *opened.log, 3, 100);
            assert!(matches!(refused, Err(LogError::Poisoned)));
        }
        assert_eq!(opened.log.end(), good);
        assert_eq!(seqs(&opened), [1, 2], "not acknowledged, not seen");
        assert_eq!(opened.log.recover().unwrap(), (2, good));
        assert_eq!(bench.len(good.segment), good.offset);
        // The number is used again, for another group.
        opened.log.append(3, &[], b"ops 3").unwrap();
        faults.next(Fault::Sync);
        add(&mut *opened.log, 4, 100).unwrap_err();
        assert_eq!(opened.log.recover().unwrap().0, 3);
        add(&mut *opened.log, 4, 100).unwrap();
        assert_eq!(seqs(&opened), [1, 2, 3, 4]);
        drop(opened);
        let opened = bench.open();
        assert_eq!(opened.report.torn_bytes, 0);
        assert_eq!(seqs(&opened), [1, 2, 3, 4]);
        check_content(&opened, 100);
    }
}

#[test]
fn a_crash_instead_of_recovery() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.faulty(Faults::new([(1, Fault::Tear(70))]));
    add(&mut *opened.log, 1, 100).unwrap();
    add(&mut *opened.log, 2, 100).unwrap_err();
    drop(opened);
    let opened = bench.open();
    assert_eq!((opened.last_seq, opened.report.torn_bytes), (1, 70));
    drop(opened);
    // Whole but never acknowledged: it may stay, and stays.
    let mut opened = bench.faulty(Faults::new([(0, Fault::Sync)]));
    add(&mut *opened.log, 2, 100).unwrap_err();
    drop(opened);
    assert_eq!(seqs(&bench.open()), [1, 2]);
}

#[test]
fn recovery_notices_that_synced_groups_are_gone() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 100).unwrap();
    let end = add(&mut *opened.log, 2, 100).unwrap().end.offset;
    bench.flip(1, end - 1);
    assert!(matches!(opened.log.recover(), Err(LogError::Damaged(_))));
    assert!(matches!(
        add(&mut *opened.log, 3, 1),
        Err(LogError::Poisoned)
    ));
    bench.writable(1).set_len(end - 5).unwrap();
    assert!(opened.log.recover().is_err());
}

#[test]
fn large_frames_are_written_from_their_parts() {
    let bench = Bench::new(64 << 20);
    let mut opened = bench.open();
    // More slices than one call takes, and an empty one among them.
    let blobs: Vec<BlobData> = (0..700).map(|n| blob(n, 1000 * (n as usize % 2))).collect();
    let blobs: Vec<&BlobData> = blobs.iter().collect();
    let places = opened.log.append(1, &blobs, b"").unwrap().places;
    for (n, place) in places.iter().enumerate() {
        let raw = opened.blobs.get(&id(n as u64), place, 0..u64::MAX).unwrap();
        assert_eq!(raw, body(n as u64, 1000 * (n % 2)));
    }
    assert_eq!(frames(&opened, START).0[0].blobs.len(), 700);
    drop(opened);
    assert_eq!(seqs(&bench.open()), [1]);
}

#[test]
fn reading_beside_writing() {
    let bench = Bench::new(30_000);
    let mut opened = bench.open();
    let reader = opened.reader.clone();
    let thread = std::thread::spawn(move || {
        let (mut at, mut seen) = (START, 0);
        while seen < 200 {
            let report = reader.read_from(at, None, &mut |frame| {
                assert_eq!(frame.seq, seen + 1);
                (seen, at) = (frame.seq, frame.end);
                true
            });
            let report = report.unwrap();
            assert_eq!((report.damaged_bytes, report.missing_groups), (0, 0));
            std::thread::yield_now();
        }
    });
    for seq in 1..=200 {
        add(&mut *opened.log, seq, 1000).unwrap();
    }
    thread.join().unwrap();
}

#[test]
fn the_log_in_memory_keeps_the_same_contract() {
    let mut opened = open_memory();
    let first = add(&mut *opened.log, 1, 100).unwrap();
    add(&mut *opened.log, 2, 100).unwrap();
    assert!(add(&mut *opened.log, 2, 100).is_err());
    assert_eq!(seqs(&opened), [1, 2]);
    assert_eq!(frames(&opened, first.end).0.len(), 1);
    check_content(&opened, 100);
    let raw = body(5, 5000);
    let place = opened.blobs.put_large_from(id(5), &mut &raw[..], 5000);
    let got = opened.blobs.get(&id(5), &place.unwrap(), 10..20).unwrap();
    assert_eq!(got, raw[10..20]);
    assert_eq!(opened.log.recover().unwrap(), (2, opened.log.end()));
}
