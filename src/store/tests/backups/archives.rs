//! Archives that were tampered with.

use super::*;

/// Members of an archive: header, and content with what fills it up.
fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut rest = archive;
    while rest[0] != 0 {
        let name = rest[..100].split(|b| *b == 0).next().unwrap();
        let len = std::str::from_utf8(&rest[124..135]).unwrap();
        let len = usize::from_str_radix(len, 8).unwrap();
        let whole = 512 + len.next_multiple_of(512);
        all.push((
            String::from_utf8(name.to_vec()).unwrap(),
            rest[..whole].to_vec(),
        ));
        rest = &rest[whole..];
    }
    all
}

fn packed<'a>(members: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut out: Vec<u8> = members.flatten().copied().collect();
    out.extend([0; 1024]);
    out
}

/// The member under another name.
fn renamed(member: &[u8], name: &str) -> Vec<u8> {
    let mut out = member.to_vec();
    out[..100].fill(0);
    out[..name.len()].copy_from_slice(name.as_bytes());
    out[148..156].fill(b' ');
    let sum: u64 = out[..512].iter().map(|byte| u64::from(*byte)).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out
}

#[test]
fn archives_that_were_tampered_with_are_refused() {
    let home = Home::new(false);
    let good = archive(&home.store, &home.data());
    let all = members(&good);
    assert_eq!(packed(all.iter().map(|(_, bytes)| bytes)), good);
    let refused = |archive: &[u8], says: &str| {
        let error = unpack(archive, &home.path("no")).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        let left: Vec<_> = std::fs::read_dir(home.path("no"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["lock"]);
        // Nothing was written beside it.
        assert!(!home.path("evil").exists());
    };
    for n in 0..all.len() {
        // Without it; in another order; with one byte changed.
        let without = all.iter().enumerate().filter(|(at, _)| *at != n);
        let says = match all[n].0.ends_with("/backup") {
            true => "not complete",
            false => "is missing",
        };
        refused(&packed(without.map(|(_, (_, bytes))| bytes)), says);
        let mut twice: Vec<_> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
        twice.push(all[n].1.clone());
        refused(&packed(twice.iter()), "twice");
        for at in [512, 700, all[n].1.len() - 513] {
            let mut changed: Vec<_> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
            // What fills a block up does not count.
            let len = usize::from_str_radix(std::str::from_utf8(&all[n].1[124..135]).unwrap(), 8);
            if at < 512 + len.unwrap() {
                changed[n][at] ^= 1;
                refused(&packed(changed.iter()), "it: ");
            }
        }
        for name in [
            "posthorn-backup/../evil",
            "posthorn-backup/log/../../evil",
            "/tmp/evil",
            "posthorn-backup/log/evil",
            "posthorn-backup/index/db",
            "log/seg-000000000001",
            "posthorn-backup",
            "posthorn-backup/",
        ] {
            let mut bad: Vec<_> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
            bad[n] = renamed(&bad[n], name);
            refused(&packed(bad.iter()), "no file of a backup");
            // Beside all that belongs there.
            let mut more: Vec<_> = all.iter().map(|(_, bytes)| bytes.clone()).collect();
            more.push(renamed(&all[n].1, name));
            refused(&packed(more.iter()), "no file of a backup");
        }
    }
    let extra = renamed(&all[0].1, "posthorn-backup/log/seg-000000009999");
    let more = all.iter().map(|(_, bytes)| bytes).chain([&extra]);
    refused(&packed(more), "does not belong");
    for cut in (0..good.len() - 1024)
        .step_by(1000)
        .chain([good.len() - 1025])
    {
        refused(&good[..cut], "cut off");
    }
    refused(&[7; 5000], "no tar archive");
    // In any order it is good.
    let reversed = packed(all.iter().rev().map(|(_, bytes)| bytes));
    unpack(&reversed, &home.path("no")).unwrap();
    run(home.store.close());
}
