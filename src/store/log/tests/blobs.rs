//! Bodies: ranges, wrong places, files of their own.

use super::*;

#[test]
fn ranges_across_chunks() {
    let bench = Bench::new(64 << 20);
    let mut opened = bench.open();
    let chunk = CHUNK as u64;
    let len = 3 * CHUNK + 1000;
    // Noise stays raw, the second half of it repeats and is compressed.
    let mut raw = body(1, 2 * CHUNK);
    raw.resize(len, b'x');
    let data = BlobData::compress(id(1), &raw);
    assert_eq!(
        data.chunks.iter().map(|c| c.codec).collect::<Vec<_>>(),
        [0, 0, 1, 0]
    );
    let inline = opened.log.append(1, &[&data], b"").unwrap().places[0];
    let large = opened.blobs.put_large(&data).unwrap();
    let streamed = opened
        .blobs
        .put_large_from(id(1), &mut &raw[..], len as u64)
        .unwrap();
    let edges = [
        0,
        1,
        chunk - 1,
        chunk,
        chunk + 1,
        2 * chunk,
        3 * chunk,
        len as u64,
    ];
    for place in [inline, large, streamed] {
        assert_eq!(place.stored_len, data.stored_len());
        for start in edges {
            for end in edges.into_iter().chain([len as u64 + 5, u64::MAX]) {
                let got = opened.blobs.get(&id(1), &place, start..end).unwrap();
                let end = (end.min(len as u64) as usize).max(start as usize);
                assert_eq!(got, raw[start as usize..end], "{start} {end}");
            }
        }
    }
}

#[test]
fn only_the_chunks_needed_must_be_good() {
    let bench = Bench::new(64 << 20);
    let mut opened = bench.open();
    let raw = body(1, 3 * CHUNK);
    let data = BlobData::compress(id(1), &raw);
    let place = opened.log.append(1, &[&data], b"").unwrap().places[0];
    bench.flip(1, place.offset + place.stored_len - 1);
    let get = |range| opened.blobs.get(&id(1), &place, range);
    let chunk = CHUNK as u64;
    assert_eq!(get(5..2 * chunk).unwrap(), raw[5..2 * CHUNK]);
    assert!(matches!(get(5..2 * chunk + 1), Err(LogError::Damaged(_))));
}

#[test]
fn places_that_are_wrong() {
    let bench = Bench::new(1 << 20);
    let mut opened = bench.open();
    let place = add(&mut *opened.log, 1, 100).unwrap().places[0];
    let empty = BlobData::compress(id(9), b"");
    let empty = opened.log.append(2, &[&empty], b"").unwrap().places[0];
    assert!(opened.blobs.get(&id(9), &empty, 0..9).unwrap().is_empty());
    let wrong = |id, place| opened.blobs.get(&id, &place, 0..9).unwrap_err();
    assert!(matches!(wrong(id(2), place), LogError::Damaged(_)));
    assert!(matches!(wrong(id(1), empty), LogError::Damaged(_)));
    let cases = [
        BlobPlace {
            offset: place.offset + 1,
            ..place
        },
        BlobPlace {
            offset: u64::MAX,
            ..place
        },
        BlobPlace {
            stored_len: u64::MAX,
            ..place
        },
        BlobPlace {
            stored_len: 1 << 40,
            ..place
        },
        BlobPlace {
            raw_len: u64::MAX,
            ..place
        },
        BlobPlace {
            raw_len: 99,
            ..place
        },
        BlobPlace {
            stored_len: 0,
            ..place
        },
    ];
    for case in cases {
        assert!(
            matches!(wrong(id(1), case), LogError::Damaged(_)),
            "{case:?}"
        );
    }
    let gone = BlobPlace {
        segment: 77,
        ..place
    };
    assert!(matches!(wrong(id(1), gone), LogError::Missing(77)));
}

#[test]
fn large_bodies_have_files_of_their_own() {
    let bench = Bench::new(1 << 20);
    let opened = bench.open();
    let raw = body(3, LARGE_BLOB as usize + 12_345);
    let place = opened
        .blobs
        .put_large_from(id(3), &mut &raw[..], raw.len() as u64)
        .unwrap();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(bench.dir.path().join("log")).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let two = ["blob-000000000002", "seg-000000000001"];
    assert_eq!(names(), two);
    // A source that ends early leaves nothing.
    let short = opened
        .blobs
        .put_large_from(id(4), &mut &raw[..], raw.len() as u64 + 1);
    assert!(short.is_err());
    assert_eq!(names(), two);
    // One that the power cut left is removed; one that is complete stays.
    std::fs::write(bench.dir.path().join("log/blob-000000000009.tmp"), b"x").unwrap();
    drop(opened);
    let mut opened = bench.open();
    assert_eq!(names(), two);
    assert_eq!(opened.report.blob_files, 1);
    let got = opened.blobs.get(&id(3), &place, 0..u64::MAX).unwrap();
    assert_eq!(got, raw);
    // The numbers go on, and the log with them.
    assert_eq!(opened.blobs.put_large(&blob(5, 10)).unwrap().segment, 3);
    add(&mut *opened.log, 1, 10).unwrap();
    let file = std::fs::read(bench.dir.path().join("log").join(two[0])).unwrap();
    let header = FileHeader::decode(&file).unwrap();
    assert_eq!((header.kind, header.number), (FileKind::Blob, 2));
}
