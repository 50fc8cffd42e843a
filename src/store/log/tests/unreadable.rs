//! What the disk does not give, and what is no file.

use super::*;

/// A bad sector: what it held is missing, all else is there, and nothing is cut off.
#[test]
fn bytes_that_can_not_be_read_cost_what_they_hold() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let mut ends = vec![FILE_HEADER as u64];
    for seq in 1..=40 {
        ends.push(add(&mut *opened.log, seq, 3000).unwrap().end.offset);
    }
    let end = opened.end;
    drop(opened);
    let (path, len) = (bench.segment(1), bench.len(1));
    // In the middle, the header of the file, and the end with the last groups in it.
    for (start, stop) in [(40_960, 45_056), (0, 4096), (len - 9000, len)] {
        faulty::make_unreadable(&path, start..stop);
        let whole = |seq: &u64| {
            let at = *seq as usize;
            // Of a body nothing is read here, and of a frame's tail all.
            let frame = [
                ends[at - 1]..ends[at - 1] + FRAME_HEADER as u64,
                ends[at] - 60..ends[at],
            ];
            frame.iter().all(|r| r.end <= start || stop <= r.start)
        };
        let want: Vec<u64> = (1..=40).filter(whole).collect();
        for acked in [true, false] {
            let opened = match acked {
                true => bench.open_acked(end, 40),
                false => bench.open(),
            };
            let context = format!("{start} {acked}");
            assert_eq!(bench.len(1), len, "{context}");
            assert_eq!(seqs(&opened), want, "{context}");
            assert!(want.len() < 40, "{context}");
            assert!(opened.last_seq >= 40, "{context}");
            assert_eq!(opened.report.torn_bytes, 0, "{context}");
        }
        let mut opened = bench.open_acked(end, 40);
        let next = opened.last_seq + 1;
        let done = add(&mut *opened.log, next, 100).unwrap();
        assert!(start == 40_960 || done.end.segment > 1, "{start}");
        assert_eq!(*seqs(&opened).last().unwrap(), next);
        drop(opened);
        // What can be read again is there again, and so is what came after it.
        faulty::make_readable(&path);
        let opened = bench.open();
        let all: Vec<u64> = (1..=40).chain([next]).collect();
        assert_eq!(seqs(&opened), all, "{start}");
        drop(opened);
        for number in 2..9 {
            let _ = std::fs::remove_file(bench.segment(number));
        }
    }
}

#[test]
fn a_bad_sector_under_the_last_group_does_not_stop_the_writer() {
    let bench = Bench::new(1 << 20);
    let faults = Faults::new([]);
    let mut opened = bench.faulty(faults.clone());
    let end = add(&mut *opened.log, 1, 3000).unwrap().end;
    faults.next(Fault::Sync);
    assert!(add(&mut *opened.log, 2, 3000).is_err());
    faulty::make_unreadable(&bench.segment(1), end.offset - 10..end.offset);
    assert_eq!(opened.log.recover().unwrap(), (1, end));
    let done = add(&mut *opened.log, 2, 3000).unwrap();
    assert_eq!(done.end.segment, 2);
    faulty::make_readable(&bench.segment(1));
    assert_eq!(seqs(&opened), [1, 2]);
}

#[test]
fn what_only_looks_like_a_file_of_the_log_is_left_alone() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    add(&mut *opened.log, 1, 100).unwrap();
    drop(opened);
    let log = bench.segment(1).parent().unwrap().to_owned();
    for name in ["seg-000000000007", "blob-000000000008"] {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, log.join(name), fifo, mode, 0).unwrap();
    }
    std::fs::create_dir(log.join("seg-000000000009")).unwrap();
    std::fs::write(log.join("blob-18446744073709551615"), b"x").unwrap();
    let (done, opened) = std::sync::mpsc::channel();
    let dir = bench.dir.path().to_owned();
    std::thread::spawn(move || {
        let opened = open_files(&dir, 1 << 20, new(ID)).map(|mut opened| {
            add(&mut *opened.log, 2, 100).unwrap();
            (
                seqs(&opened),
                opened.blobs.put_large(&blob(3, 100)).unwrap(),
            )
        });
        done.send(opened).unwrap();
    });
    let patience = std::time::Duration::from_secs(60);
    let (seqs, place) = opened.recv_timeout(patience).unwrap().unwrap();
    assert_eq!(seqs, [1, 2]);
    assert!(place.segment < 100, "{place:?}");
}
