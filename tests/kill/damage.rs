//! What happens to the files between two runs of the server.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::chance::Chance;

/// What was done, and whether the index has to be built anew after it.
pub struct Damage {
    pub what: &'static str,
    pub rebuilds: bool,
}

fn newest(dir: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|e| wanted(&e.file_name().to_string_lossy()))
        .map(|e| e.path())
        .collect();
    found.sort();
    found.pop()
}

fn indexes(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data).expect("data").flatten();
    let mut found: Vec<_> = entries
        .filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name == "index" || name.starts_with("index-")
        })
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("read").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
        } else {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    }
}

fn overwrite(path: &Path, chance: &mut Chance) {
    let file = File::options().write(true).open(path).expect("open");
    let len = file.metadata().expect("metadata").len();
    let at = chance.below(len);
    file.write_all_at(&chance.bytes(16), at).expect("write");
}

/// Damages something, or nothing. `kept` is where older copies of the index lie.
pub fn damage(data: &Path, kept: &Path, chance: &mut Chance) -> Damage {
    let all = indexes(data);
    // Where a rebuild was cut off there are two; the oldest is that which serves.
    let index = all.first().cloned();
    let done = |what, rebuilds| Damage { what, rebuilds };
    let Some(index) = index else {
        return done("nothing", false);
    };
    let db = index.join("db");
    if chance.percent(30) {
        copy(&index, kept);
    }
    match chance.below(100) {
        0..20 => {}
        20..35 if db.exists() => {
            let file = File::options().write(true).open(&db).expect("open");
            let len = file.metadata().expect("metadata").len();
            let cut = chance.below(300_000);
            file.set_len(len.saturating_sub(cut)).expect("cut");
            return done("index tail cut", false);
        }
        35..50 if db.exists() => {
            for _ in 0..=chance.below(3) {
                overwrite(&db, chance);
            }
            return done("16 bytes of the index overwritten", false);
        }
        50..60 => {
            let name = match chance.below(3) {
                0 => "snap.0000000000001234",
                1 => "snap.0000000000001234.generating",
                _ => "snap.FFFFFFFFFFFFFFFF.generating",
            };
            let len = chance.below(4096) as usize;
            std::fs::write(index.join(name), chance.bytes(len)).expect("write");
            return done("a snapshot left over", false);
        }
        60..67 => {
            for path in all {
                std::fs::remove_dir_all(path).expect("remove");
            }
            return done("the index removed", true);
        }
        67..77 if kept.exists() => {
            for path in all {
                std::fs::remove_dir_all(path).expect("remove");
            }
            copy(kept, &index);
            return done("an older index put back", false);
        }
        77..88 => {
            torn_frame(data, chance);
            return done("a torn last frame", false);
        }
        _ => {
            let name = |n: &str| n.starts_with("image-") && !n.contains('.');
            if let Some(image) = newest(&data.join("image"), name) {
                overwrite(&image, chance);
                for path in all {
                    std::fs::remove_dir_all(path).expect("remove");
                }
                return done("the newest image damaged, the index removed", true);
            }
        }
    }
    done("nothing", false)
}

/// As a power cut in the middle of a write leaves it: the beginning of a frame, and not its end.
fn torn_frame(data: &Path, chance: &mut Chance) {
    let log = data.join("log");
    let Some(path) = newest(&log, |n| n.starts_with("seg-")) else {
        return;
    };
    let old = std::fs::read(&path).expect("segment");
    let mut half = match chance.below(2) {
        // The header of a frame that was good elsewhere.
        0 if old.len() > 112 => old[64..112].to_vec(),
        _ => Vec::new(),
    };
    let len = 1 + chance.below(20_000) as usize;
    half.extend(chance.bytes(len));
    let file = File::options().append(true).open(&path).expect("open");
    std::io::Write::write_all(&mut &file, &half).expect("write");
}
