//! One suite for both engines, and what only sled has: files that get damaged.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use super::*;

const CACHE: u64 = 8 * 1024 * 1024;

fn to(offset: u64, seq: u64) -> Applied {
    Applied {
        store: [7; 16],
        at: LogPos { segment: 3, offset },
        seq,
    }
}

fn put(key: &str, value: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.into(), Some(value.into()))
}

fn keys(index: &dyn Index, prefix: &str, from: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    index
        .scan(
            prefix.as_bytes(),
            from.map(str::as_bytes),
            &mut |key, value| {
                let [key, value] = [key, value].map(|b| String::from_utf8(b.to_vec()).unwrap());
                found.push(format!("{key}={value}"));
                found.len() < 3
            },
        )
        .unwrap();
    found
}

fn engines() -> Vec<(Arc<dyn Index>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let sled = open_sled(dir.path(), CACHE).unwrap();
    vec![(Arc::new(MemoryIndex::default()), None), (sled, Some(dir))]
}

#[test]
fn batches_gets_and_scans() {
    for (index, _dir) in engines() {
        assert_eq!(index.applied().unwrap(), None);
        let batch = vec![
            put("ma", "1"),
            put("mb", "2"),
            put("mc", "3"),
            put("n", "4"),
        ];
        index.apply(batch, to(100, 7)).unwrap();
        assert_eq!(index.applied().unwrap(), Some(to(100, 7)));
        index
            .apply(vec![(b"mb".to_vec(), None), put("ma", "9")], to(200, 8))
            .unwrap();
        assert_eq!(index.applied().unwrap(), Some(to(200, 8)));
        assert_eq!(index.get(b"ma").unwrap(), Some(b"9".to_vec()));
        assert_eq!(index.get(b"mb").unwrap(), None);
        assert_eq!(keys(&*index, "m", None), ["ma=9", "mc=3"]);
        assert_eq!(keys(&*index, "m", Some("mb")), ["mc=3"]);
        assert_eq!(keys(&*index, "m", Some("mc")), ["mc=3"]);
        assert_eq!(keys(&*index, "m", Some("a")), ["ma=9", "mc=3"]);
        assert_eq!(keys(&*index, "m", Some("z")), [""; 0]);
        assert_eq!(keys(&*index, "x", None), [""; 0]);
        index
            .apply(vec![put("md", ""), put("me", "")], to(300, 9))
            .unwrap();
        assert_eq!(keys(&*index, "m", None), ["ma=9", "mc=3", "md="], "stopped");
        index.checkpoint().unwrap();
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    for (index, _dir) in engines() {
        index.apply(vec![put("a", "1")], to(1, 1)).unwrap();
        let large = vec![put("b", "2"), (b"c".to_vec(), Some(vec![0; MAX_VALUE + 1]))];
        let refused = index.apply(large, to(2, 2));
        assert!(matches!(refused, Err(IndexError::ValueTooLarge(6145))));
        assert!(index.apply(vec![put("ka", "x")], to(2, 2)).is_err());
        assert_eq!(index.get(b"b").unwrap(), None);
        assert_eq!(index.applied().unwrap(), Some(to(1, 1)));
        index
            .apply(vec![(b"c".to_vec(), Some(vec![0; MAX_VALUE]))], to(2, 2))
            .unwrap();
    }
}

#[test]
fn an_index_of_another_schema_is_told() {
    let mut value = encode_applied(to(5, 6));
    assert_eq!(decode_applied(&value).unwrap(), to(5, 6));
    assert!(decode_applied(&value[..41]).is_err());
    value[1] = 9;
    let found = decode_applied(&value);
    assert!(matches!(
        found,
        Err(IndexError::Schema {
            found: 9,
            known: SCHEMA
        })
    ));
}

#[test]
fn it_is_private_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let index = open_sled(dir.path(), CACHE).unwrap();
    index.apply(vec![put("a", "1")], to(1, 1)).unwrap();
    index.checkpoint().unwrap();
    assert!(index.size_on_disk() > 0);
    drop(index);
    let mode = std::fs::metadata(dir.path().join("index"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    let index = open_sled(dir.path(), CACHE).unwrap();
    assert_eq!(index.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(index.applied().unwrap(), Some(to(1, 1)));
}

/// Makes an index with enough in it that damage hits something.
fn filled(dir: &Path) {
    let index = open_sled(dir, CACHE).unwrap();
    for n in 0..2000_u64 {
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let batch = vec![([b"m", &key[..]].concat(), Some(vec![b'v'; 300]))];
        index.apply(batch, to(n, n + 1)).unwrap();
    }
    index.checkpoint().unwrap();
}

#[test]
fn a_left_over_snapshot_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for name in ["snap.00000000000000FF.generating", "snap.00000000000000FF"] {
        std::fs::write(dir.path().join("index").join(name), b"not a snapshot").unwrap();
    }
    let index = open_sled(dir.path(), CACHE).unwrap();
    assert_eq!(index.applied().unwrap(), Some(to(1999, 2000)));
}

/// sled may notice damage, or panic over it, or not see it: never a panic of ours, and a fresh
/// index can always take the place of the damaged one in the same process.
#[test]
fn damage_is_no_panic_and_a_fresh_one_takes_its_place() {
    for quarter in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        let db = dir.path().join("index/db");
        let file = std::fs::OpenOptions::new().write(true).open(db).unwrap();
        let offset = file.metadata().unwrap().len() / 4 * quarter;
        file.write_all_at(&[0xff; 16], offset).unwrap();
        drop(file);
        if let Ok(index) = open_sled(dir.path(), CACHE) {
            let _ = index.applied();
            let _ = index.scan(b"", None, &mut |_, _| true);
        }

        let index = open_fresh_sled(dir.path(), CACHE).unwrap();
        assert_eq!(index.applied().unwrap(), None);
        index.apply(vec![put("a", "fresh")], to(5, 5)).unwrap();
        index.checkpoint().unwrap();
        assert!(dir.path().join("index").exists(), "until the other is done");
        retire_sleds(dir.path()).unwrap();
        assert!(dir.path().join("index.bad-0/db").exists());
        assert!(!dir.path().join("index").exists());
        drop(index);
        let index = open_sled(dir.path(), CACHE).unwrap();
        assert_eq!(index.get(b"a").unwrap(), Some(b"fresh".to_vec()));
    }
}

#[test]
fn a_broken_configuration_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    std::fs::write(dir.path().join("index/conf"), [0xff; 40]).unwrap();
    assert!(open_sled(dir.path(), CACHE).is_err());
    assert!(open_fresh_sled(dir.path(), CACHE).is_ok());
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn one_bad_one_is_kept_and_no_path_is_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let index = open_fresh_sled(dir.path(), CACHE).unwrap();
        // The one before is still open in the first rounds, as after a failed check.
        index.apply(vec![put("a", "x")], to(round, round)).unwrap();
        retire_sleds(dir.path()).unwrap();
        let want: &[&str] = match round {
            0 => &["index"],
            1 => &["index-1", "index.bad-0"],
            2 => &["index-2", "index.bad-1"],
            _ => &["index-3", "index.bad-2"],
        };
        assert_eq!(names(dir.path()), want);
    }
}

#[test]
fn attempts_that_fail_leave_the_one_that_serves_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for round in 1..4 {
        drop(open_fresh_sled(dir.path(), CACHE).unwrap());
        assert_eq!(
            names(dir.path()),
            ["index".into(), format!("index-{round}")]
        );
    }
    // A crash in the middle of the last one.
    let index = open_sled(dir.path(), CACHE).unwrap();
    assert_eq!(index.applied().unwrap(), Some(to(1999, 2000)));
    retire_sleds(dir.path()).unwrap();
    assert_eq!(names(dir.path()), ["index-3", "index.bad-0"]);
}

/// A crash may leave any of these; each opens, and each can be replaced, again and again.
#[test]
fn whatever_a_crash_in_a_rebuild_leaves_opens_and_can_be_rebuilt() {
    let states: &[&[&str]] = &[
        &[],
        &["index.bad-0"],
        &["index", "index.bad-0"],
        &["index-1", "index.bad-1"],
        &["index", "index-1"],
        &["index", "index-1", "index.bad-0", "index.bad-1"],
        &["index.bad-7", "index.bad-x", "index-y"],
    ];
    for state in states {
        let dir = tempfile::tempdir().unwrap();
        for name in *state {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("keep"), b"x").unwrap();
        }
        for _ in 0..3 {
            let index = open_sled(dir.path(), CACHE).unwrap();
            index.apply(vec![put("a", "x")], to(1, 1)).unwrap();
            drop(index);
            let index = open_fresh_sled(dir.path(), CACHE).unwrap();
            assert_eq!(index.applied().unwrap(), None, "{state:?}");
            drop(index);
            retire_sleds(dir.path()).unwrap();
            // The rebuilt one is gone, as when somebody removed it.
            for name in names(dir.path()) {
                if name.starts_with("index") && !name.contains("bad") && name != "index-y" {
                    std::fs::remove_dir_all(dir.path().join(name)).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_the_machine_lacks_is_not_damage() {
    let io = |kind: std::io::ErrorKind| IndexError::Io {
        path: "x".into(),
        source: kind.into(),
    };
    assert!(io(std::io::ErrorKind::StorageFull).is_resource());
    assert!(io(std::io::ErrorKind::PermissionDenied).is_resource());
    assert!(!io(std::io::ErrorKind::InvalidData).is_resource());
    let emfile = IndexError::Io {
        path: "x".into(),
        source: std::io::Error::from_raw_os_error(24),
    };
    assert!(emfile.is_resource());
    let panicked = "called `Result::unwrap()`: No space left on device (os error 28)";
    assert!(IndexError::Panicked(panicked.into()).is_resource());
    assert!(!IndexError::Panicked("(os error 2)".into()).is_resource());
}
