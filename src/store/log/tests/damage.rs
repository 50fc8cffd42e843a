//! Files that are torn, flipped, forged, foreign, unmade or gone.

use super::*;

#[test]
fn a_group_torn_at_any_byte_is_cut_off() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 100).unwrap();
    let good = add(&mut *opened.log, 2, 100).unwrap().end.offset;
    let end = add(&mut *opened.log, 3, 100).unwrap().end.offset;
    drop(opened);
    let whole = std::fs::read(bench.segment(1)).unwrap();
    assert_eq!(whole.len() as u64, end);
    for cut in good..end {
        // As the tail may look: cut off, or the rest zero, or the rest something else.
        for filling in [None, Some(0), Some(0xa5)] {
            let mut torn = whole[..cut as usize].to_vec();
            if let Some(byte) = filling {
                torn.resize(end as usize + 50, byte);
            }
            std::fs::write(bench.segment(1), &torn).unwrap();
            let mut opened = bench.open();
            let context = format!("{cut} {filling:?}");
            assert_eq!(opened.last_seq, 2, "{context}");
            assert_eq!(opened.end.offset, good, "{context}");
            assert_eq!(
                opened.report.torn_bytes,
                torn.len() as u64 - good,
                "{context}"
            );
            assert_eq!(opened.report.damaged_bytes, 0, "{context}");
            assert_eq!(bench.len(1), good, "{context}");
            if cut % 16 == 0 {
                add(&mut *opened.log, 3, 100).unwrap();
                assert_eq!(seqs(&opened), [1, 2, 3]);
                check_content(&opened, 100);
            }
        }
    }
    std::fs::write(bench.segment(1), &whole).unwrap();
    assert_eq!(seqs(&bench.open()), [1, 2, 3]);
}

#[test]
fn the_first_group_of_a_segment_torn() {
    let bench = Bench::new(5000);
    let mut opened = bench.open();
    for seq in 1..=2 {
        add(&mut *opened.log, seq, 4000).unwrap();
    }
    let end = opened.end;
    drop(opened);
    let (first, second) = (end.segment, end.segment + 1);
    assert_eq!(first, 1);
    bench.writable(second).set_len(1000).unwrap();
    let mut opened = bench.open();
    assert_eq!(opened.last_seq, 1);
    assert_eq!(bench.len(second), FILE_HEADER as u64);
    assert_eq!(opened.report.torn_bytes, 1000 - FILE_HEADER as u64);
    let position = frames(&opened, START).0[0].end;
    add(&mut *opened.log, 2, 4000).unwrap();
    assert_eq!(frames(&opened, position).0[0].seq, 2);
    check_content(&opened, 4000);
}

#[test]
fn a_flipped_byte_costs_one_group_or_one_body_and_no_byte_of_the_file() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let mut ends = Vec::new();
    let mut places = Vec::new();
    for seq in 1..=4 {
        let done = add(&mut *opened.log, seq, 300).unwrap();
        ends.push(done.end.offset);
        places.push(done.places[0]);
    }
    drop(opened);
    let record = places[2].offset..places[2].offset + places[2].stored_len;
    for offset in ends[1]..ends[2] {
        bench.flip(1, offset);
        let opened = bench.open();
        assert_eq!(opened.last_seq, 4);
        assert_eq!(opened.report.torn_bytes, 0);
        let (found, report) = frames(&opened, START);
        let seqs: Vec<u64> = found.iter().map(|f| f.seq).collect();
        if record.contains(&offset) {
            assert_eq!(seqs, [1, 2, 3, 4], "{offset}");
            assert_eq!(found[2].blobs, [(id(3), places[2])]);
            assert!(opened.blobs.get(&id(3), &places[2], 0..300).is_err());
            assert!(opened.blobs.get(&id(4), &places[3], 0..300).is_ok());
        } else {
            assert_eq!(seqs, [1, 2, 4], "{offset}");
            assert_eq!(report.missing_groups, 1);
            assert_eq!(report.damaged_bytes, ends[2] - ends[1]);
        }
        assert_eq!(bench.len(1), ends[3]);
        bench.flip(1, offset);
    }
    assert_eq!(seqs(&bench.open()), [1, 2, 3, 4]);
}

#[test]
fn what_the_index_has_is_never_cut_off() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 300).unwrap();
    let second = add(&mut *opened.log, 2, 300).unwrap();
    let third = add(&mut *opened.log, 3, 300).unwrap();
    drop(opened);
    let len = bench.len(1);
    // A body of the last group: the group stays, and its numbers with it.
    bench.flip(1, third.places[0].offset + 50);
    let opened = bench.open_acked(third.end, 3);
    assert_eq!((opened.last_seq, opened.end), (3, third.end));
    assert_eq!(opened.report.lost_groups, 0);
    assert_eq!(seqs(&opened), [1, 2, 3]);
    drop(opened);
    // The last two groups: both are damage, nothing is cut, numbers go on above them.
    bench.flip(1, third.end.offset - 1);
    bench.flip(1, second.end.offset - 1);
    let mut opened = bench.open_acked(third.end, 3);
    assert_eq!((opened.last_seq, opened.report.lost_groups), (3, 1));
    assert_eq!(opened.report.torn_bytes, 0);
    assert!(opened.report.damaged_bytes > 0);
    assert_eq!(bench.len(1), len);
    let fourth = add(&mut *opened.log, 4, 300).unwrap();
    assert!(fourth.end.segment > 1);
    let mut found = Vec::new();
    let report = opened.reader.read_from(third.end, Some(3), &mut |frame| {
        found.push(frame.seq);
        true
    });
    assert_eq!((found, report.unwrap().missing_groups), (vec![4], 0));
    drop(opened);
    let opened = bench.open();
    assert_eq!((seqs(&opened), opened.last_seq), (vec![1, 4], 4));
    assert_eq!(bench.len(1), len);
    drop(opened);
    // The whole segment gone.
    std::fs::remove_file(bench.segment(1)).unwrap();
    let far = LogPos {
        segment: 9,
        offset: 70,
    };
    let mut opened = bench.open_acked(far, 9);
    assert_eq!((opened.last_seq, opened.report.lost_groups), (9, 5));
    assert!(add(&mut *opened.log, 10, 1).unwrap().end.segment > 9);
}

#[test]
fn groups_missing_right_after_the_start_are_counted() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let first = add(&mut *opened.log, 1, 30).unwrap().end;
    let second = add(&mut *opened.log, 2, 30).unwrap().end;
    add(&mut *opened.log, 3, 30).unwrap();
    bench.flip(1, second.offset - 1);
    let read = |after| opened.reader.read_from(first, after, &mut |_| true);
    assert_eq!(read(Some(1)).unwrap().missing_groups, 1);
    assert_eq!(read(None).unwrap().missing_groups, 0);
}

#[test]
fn an_index_of_other_groups_is_told() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let first = add(&mut *opened.log, 1, 300).unwrap().end;
    let second = add(&mut *opened.log, 2, 300).unwrap().end;
    drop(opened);
    let mut inside = first;
    inside.offset += 7;
    for (at, seq, misfit) in [
        (first, 1, false),
        (second, 2, false),
        (first, 2, true),
        (second, 1, true),
        (inside, 1, true),
    ] {
        let opened = bench.open_acked(at, seq);
        assert_eq!(opened.report.misfit, misfit, "{at} {seq}");
        assert_eq!(opened.last_seq, 2);
    }
}

#[test]
fn the_only_segments_header_damaged() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let end = add(&mut *opened.log, 1, 300).unwrap().end;
    let large = opened.blobs.put_large(&blob(5, 10)).unwrap();
    drop(opened);
    for offset in [0, 5, 9, 20, 30, 62] {
        bench.flip(1, offset);
        let opened = bench.open_acked(end, 1);
        assert!(opened.report.damaged_bytes > 0);
        assert_eq!(seqs(&opened), [1]);
        drop(opened);
        // Without the file that has the id: from a body's file.
        assert_eq!(seqs(&bench.open()), [1]);
        bench.flip(1, offset);
    }
    assert_eq!(large.segment, 2);
}

#[test]
fn a_log_that_is_gone_is_not_an_empty_one() {
    let bench = Bench::new(1 << 20);
    for (id, acked) in [(Some(ID), None), (None, Some((START, 1)))] {
        let known = Known {
            id,
            acked,
            ..Known::default()
        };
        let error = open_files(bench.dir.path(), 1 << 20, known).err();
        assert!(matches!(error, Some(OpenError::LogMissing { .. })));
    }
}

#[test]
fn damage_in_a_sealed_segment_is_kept() {
    let bench = Bench::new(5000);
    let mut opened = bench.open();
    for seq in 1..=9 {
        add(&mut *opened.log, seq, 1500).unwrap();
    }
    let middle = frames(&opened, START).0[4].end.segment;
    drop(opened);
    let len = bench.len(middle);
    // The end of it, and the header of the file too.
    bench.flip(middle, len - 1);
    bench.flip(middle, 20);
    let opened = bench.open();
    let (found, report) = frames(&opened, START);
    assert_eq!(found.len(), 8);
    assert_eq!(report.missing_groups, 1);
    assert!(report.damaged_bytes > 1500 && opened.report.damaged_bytes > 0);
    assert_eq!(bench.len(middle), len);
    check_content(&opened, 1500);
    drop(opened);
    // A segment that is gone is missed too.
    std::fs::remove_file(bench.segment(middle)).unwrap();
    let (found, report) = frames(&bench.open(), START);
    assert_eq!(found.len() as u64 + report.missing_groups, 9);
}

#[test]
fn mail_that_looks_like_a_frame_is_not_one() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    // A stranger knows the format, but not the store's id.
    let strange = Bench::new(1 << 20);
    let mut other = open_files(strange.dir.path(), 1 << 20, new([0; 16])).unwrap();
    for seq in 1..=3 {
        add(&mut *other.log, seq, 10).unwrap();
    }
    let mut forged = std::fs::read(strange.segment(1)).unwrap();
    forged.truncate(1000);
    let forged = BlobChunk {
        codec: 0,
        raw_len: forged.len() as u32,
        crc: crc32fast::hash(&forged),
        bytes: forged.into(),
    };
    let evil = BlobData {
        id: id(1),
        raw_len: u64::from(forged.raw_len),
        chunks: vec![forged],
    };
    let start = opened.log.append(1, &[&evil], b"ops 1").unwrap();
    opened.log.append(2, &[], b"ops 2").unwrap();
    drop(opened);
    bench.flip(1, FILE_HEADER as u64 + 20);
    let opened = bench.open();
    let (found, report) = frames(&opened, START);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].ops, b"ops 2");
    let lost = start.end.offset - FILE_HEADER as u64;
    assert_eq!((report.damaged_bytes, report.missing_groups), (lost, 1));
}

#[test]
fn lengths_in_damage_allocate_nothing() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 100).unwrap();
    let end = add(&mut *opened.log, 2, 100).unwrap().end.offset;
    drop(opened);
    // A header that is right in itself and claims much more than there is.
    let seed = frame::Seed::new(&ID, 1);
    let liar = frame::FrameHeader {
        seq: 3,
        blob_count: u32::MAX,
        blobs_len: 100 << 20,
        ops_len: 100 << 20,
        tail_crc: 0,
    };
    let file = bench.writable(1);
    file.write_all_at(&liar.encode(&seed, end), end).unwrap();
    let mut pad = vec![1; 70_000];
    pad.extend_from_slice(&FRAME_MAGIC);
    file.write_all_at(&pad, end + FRAME_HEADER as u64).unwrap();
    // It holds another beginning of a frame, so nothing is cut off.
    let len = bench.len(1);
    let opened = bench.open();
    assert_eq!((opened.last_seq, opened.end.segment), (2, 2));
    assert_eq!(bench.len(1), len);
}

#[test]
fn two_bad_groups_at_the_end_are_no_torn_one() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 300).unwrap();
    let second = add(&mut *opened.log, 2, 300).unwrap().end;
    let third = add(&mut *opened.log, 3, 300).unwrap().end;
    drop(opened);
    bench.flip(1, second.offset - 1);
    bench.flip(1, third.offset - 1);
    let len = bench.len(1);
    // Even though the index knows of none of them, or there is no index.
    let mut opened = bench.open();
    assert_eq!(opened.report.torn_bytes, 0);
    assert!(add(&mut *opened.log, 4, 10).unwrap().end.segment > 1);
    assert_eq!(bench.len(1), len);
    drop(opened);
    // The id of another store, and a header that says nothing.
    bench.flip(1, 3);
    let known = Known {
        id: Some([1; 16]),
        ..Known::default()
    };
    let other = open_files(bench.dir.path(), 1 << 20, known);
    assert!(matches!(other.err(), Some(OpenError::Foreign { .. })));
    std::fs::remove_file(bench.segment(2)).unwrap();
    drop(open_files(bench.dir.path(), 1 << 20, known).unwrap());
    assert_eq!(bench.len(1), len);
}

#[test]
fn files_that_are_not_ours() {
    let written = |change: &dyn Fn(&Bench)| {
        let bench = Bench::new(5000);
        let mut opened = bench.open();
        for seq in 1..=3 {
            add(&mut *opened.log, seq, 4000).unwrap();
        }
        drop(opened);
        change(&bench);
        bench.try_open().err()
    };
    let newer = FileHeader {
        kind: FileKind::Segment,
        number: 1,
        store_id: ID,
    };
    let mut newer = newer.encode();
    newer[8..12].copy_from_slice(&7_u32.to_be_bytes());
    let crc = crc32fast::hash(&newer[..60]);
    newer[60..].copy_from_slice(&crc.to_be_bytes());
    assert!(written(&|_| ()).is_none());
    let error = written(&|bench| bench.writable(1).write_all_at(&newer, 0).unwrap());
    assert!(matches!(
        error,
        Some(OpenError::Newer {
            found: 7,
            known: 1,
            ..
        })
    ));
    let error = written(&|bench| {
        let other = Bench::new(5000);
        drop(open_files(other.dir.path(), 5000, new([1; 16])).unwrap());
        std::fs::copy(other.segment(1), bench.segment(1)).unwrap();
    });
    assert!(matches!(error, Some(OpenError::Foreign { .. })));
    let error = written(&|bench| std::fs::rename(bench.segment(1), bench.segment(99)).unwrap());
    assert!(matches!(error, Some(OpenError::Foreign { .. })));

    let bench = Bench::new(5000);
    std::fs::create_dir(bench.dir.path().join("log")).unwrap();
    std::fs::write(bench.segment(1), vec![b'x'; 500]).unwrap();
    let error = bench.try_open().err();
    assert!(matches!(error, Some(OpenError::Foreign { .. })));
    assert_eq!(bench.len(1), 500);
}

#[test]
fn segments_that_a_power_cut_left_unmade() {
    for left in [0, 10, 64] {
        let bench = Bench::new(1 << 20);
        // At the very first start.
        std::fs::create_dir(bench.dir.path().join("log")).unwrap();
        std::fs::write(bench.segment(1), vec![0; left]).unwrap();
        let mut opened = bench.open();
        assert!(opened.report.created);
        add(&mut *opened.log, 1, 10).unwrap();
        let end = opened.log.end();
        drop(opened);
        // And later.
        std::fs::write(bench.segment(end.segment + 1), vec![0; left]).unwrap();
        let mut opened = bench.open();
        assert_eq!((opened.end, opened.last_seq), (end, 1));
        assert_eq!(opened.report.torn_bytes + opened.report.damaged_bytes, 0);
        add(&mut *opened.log, 2, 10).unwrap();
        assert_eq!(seqs(&opened), [1, 2]);
    }
}

#[test]
fn more_than_a_torn_group_is_never_cut_off() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 100).unwrap();
    let end = add(&mut *opened.log, 2, 100).unwrap().end.offset;
    drop(opened);
    let len = end + 40 * 1024 * 1024;
    bench.writable(1).write_all_at(b"x", len - 1).unwrap();
    let mut opened = bench.open();
    assert_eq!((opened.last_seq, bench.len(1)), (2, len));
    assert_eq!(
        (opened.report.torn_bytes, opened.report.damaged_bytes),
        (0, len - end)
    );
    // Writing goes on in another segment.
    assert!(add(&mut *opened.log, 3, 100).unwrap().end.segment > 1);
    let (found, report) = frames(&opened, START);
    assert_eq!(found.len(), 3);
    assert_eq!(
        (report.damaged_bytes, report.missing_groups),
        (len - end, 0)
    );
    drop(opened);
    assert_eq!(seqs(&bench.open()), [1, 2, 3]);
}
