//! What a backup says of itself: the place in the log that it is of, and its files with their
//! lengths and checksums.
//!
//! May import: names of the log's and the images' files, types. Machine: no IO, no clock, no
//! randomness.
//!
//! Text, a fact a line. The last line is a checksum of all before it, so that one that was cut off
//! is never taken for a whole one. A file may be longer than is said here: what a later run has
//! added to the newest segment is none of this backup's.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::store::image::files as images;
use crate::store::log;
use crate::types::{LogPos, UnixMillis};

const HEAD: &str = "posthorn-backup";
/// Version of the format that is written.
const VERSION: u32 = 1;

/// A file of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub len: u64,
    /// crc32 of so many bytes.
    pub crc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub store_id: [u8; 16],
    /// The group whose state it is, and where that ends.
    pub group: u64,
    pub at: LogPos,
    pub made: UnixMillis,
    /// The program that made it.
    pub by: String,
    /// Versions of the forms that files of its store have.
    pub forms: Vec<(String, u32)>,
    /// By name.
    pub files: BTreeMap<String, Entry>,
}

/// Why bytes are not a manifest that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadManifest {
    #[error("it is no backup of Posthorn")]
    Foreign,
    #[error("it is damaged or cut off")]
    Damaged,
    #[error("it was made by a newer posthorn (format {0})")]
    Newer(u32),
}

/// What a file of a backup is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StoreId,
    /// Of this group.
    Image(u64),
    Segment(u64),
    Large(u64),
}

/// None: a backup has no file of that name, and nothing is ever written to it.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    if name == super::STORE_ID {
        return Some(Kind::StoreId);
    }
    if let Some(name) = name.strip_prefix("image/") {
        let (group, copy) = images::number_of(name)?;
        return (!copy).then_some(Kind::Image(group));
    }
    let (number, large) = log::number_of(name.strip_prefix("log/")?)?;
    Some(match large {
        true => Kind::Large(number),
        false => Kind::Segment(number),
    })
}

impl Manifest {
    pub(super) fn encode(&self) -> String {
        let id = u128::from_be_bytes(self.store_id);
        let mut text = format!(
            "{HEAD} {VERSION}\nstore {id:032x}\ngroup {}\nat {} {}\nmade {}\nby {}\n",
            self.group, self.at.segment, self.at.offset, self.made.0, self.by
        );
        for (name, version) in &self.forms {
            let _ = writeln!(text, "form {name} {version}");
        }
        for (name, entry) in &self.files {
            let _ = writeln!(text, "file {name} {} {:08x}", entry.len, entry.crc);
        }
        let crc = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "end {crc:08x}");
        text
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadManifest> {
        let text = std::str::from_utf8(bytes).map_err(|_| BadManifest::Damaged)?;
        let (first, _) = text.split_once('\n').ok_or(BadManifest::Foreign)?;
        let version = first
            .strip_prefix(HEAD)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(BadManifest::Foreign)?;
        match version.parse::<u32>() {
            Ok(VERSION) => {}
            Ok(version) if version > VERSION => return Err(BadManifest::Newer(version)),
            _ => return Err(BadManifest::Damaged),
        }
        let end = text.rfind("\nend ").ok_or(BadManifest::Damaged)? + 1;
        let (checked, end) = text.split_at(end);
        if end != format!("end {:08x}\n", crc32fast::hash(checked.as_bytes())) {
            return Err(BadManifest::Damaged);
        }
        Self::parse(checked).ok_or(BadManifest::Damaged)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let id = field("store").filter(|hex| hex.len() == 32)?;
        let id = u128::from_str_radix(id, 16).ok()?;
        let group = field("group")?.parse().ok()?;
        let (segment, offset) = field("at")?.split_once(' ')?;
        let at = LogPos {
            segment: segment.parse().ok()?,
            offset: offset.parse().ok()?,
        };
        let made = UnixMillis(field("made")?.parse().ok()?);
        let by = field("by")?.to_owned();
        let (mut forms, mut files) = (Vec::new(), BTreeMap::new());
        for line in lines {
            if let Some(form) = line.strip_prefix("form ") {
                let (name, version) = form.split_once(' ')?;
                forms.push((name.to_owned(), version.parse().ok()?));
                continue;
            }
            let mut words = line.strip_prefix("file ")?.split(' ');
            let (name, len, crc) = (words.next()?, words.next()?, words.next()?);
            kind_of(name)?;
            let entry = Entry {
                len: len.parse().ok()?,
                crc: u32::from_str_radix(crc, 16).ok()?,
            };
            let twice = files.insert(name.to_owned(), entry).is_some();
            if twice || words.next().is_some() {
                return None;
            }
        }
        let found = Self {
            store_id: id.to_be_bytes(),
            group,
            at,
            made,
            by,
            forms,
            files,
        };
        found.is_complete().then_some(found)
    }

    /// It has its image and no other, and the log as far as it says.
    fn is_complete(&self) -> bool {
        let (mut id, mut images, mut last) = (false, 0, None);
        for (name, entry) in &self.files {
            match kind_of(name) {
                Some(Kind::StoreId) => id = true,
                Some(Kind::Image(group)) if group == self.group => images += 1,
                Some(Kind::Image(_)) | None => return false,
                Some(Kind::Segment(number)) if number > self.at.segment => return false,
                Some(Kind::Segment(number)) if number == self.at.segment => last = Some(entry.len),
                Some(Kind::Segment(_) | Kind::Large(_)) => {}
            }
        }
        id && images == 1 && last == Some(self.at.offset)
    }

    /// Of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|entry| entry.len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let entry = |len| Entry { len, crc: 7 };
        let files = [
            ("store-id", entry(60)),
            ("image/image-00000000000000000900", entry(1000)),
            ("log/seg-000000000001", entry(5000)),
            ("log/blob-000000000002", entry(9_000_000)),
            ("log/seg-000000000003", entry(700)),
        ];
        Manifest {
            store_id: [0x5a; 16],
            group: 900,
            at: LogPos {
                segment: 3,
                offset: 700,
            },
            made: UnixMillis(1_700_000_000_123),
            by: "posthorn 0.1.0".into(),
            forms: vec![("log".into(), 1), ("image".into(), 7)],
            files: files.map(|(name, entry)| (name.to_owned(), entry)).into(),
        }
    }

    fn sealed(text: &str) -> Vec<u8> {
        let crc = crc32fast::hash(text.as_bytes());
        format!("{text}end {crc:08x}\n").into_bytes()
    }

    #[test]
    fn comes_back_and_damage_is_seen() {
        let text = manifest().encode();
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest()));
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] ^= 1;
            assert!(Manifest::decode(&bad).is_err(), "{at}");
            assert!(Manifest::decode(&text.as_bytes()[..at]).is_err(), "{at}");
        }
        assert_eq!(
            Manifest::decode(b"posthorn-backup 2\nwhat comes then\n"),
            Err(BadManifest::Newer(2))
        );
        assert_eq!(Manifest::decode(b"x\n"), Err(BadManifest::Foreign));
    }

    #[test]
    fn names_are_those_that_are_known() {
        let text = manifest().encode();
        let (text, _) = text.rsplit_once("end ").unwrap();
        for name in [
            "log/../../../etc/passwd",
            "/etc/passwd",
            "log/seg-00000000000003",
            "log/seg-3",
            "log/",
            "image/image-00000000000000000900.copy",
            "index/db",
            "log/seg-000000000004",
            "",
        ] {
            let bad = text.replace("log/seg-000000000001", name);
            assert_ne!(bad, text);
            let decoded = Manifest::decode(&sealed(&bad));
            assert_eq!(decoded, Err(BadManifest::Damaged), "{name}");
        }
        // Another backup's image, or none.
        let bad = text.replace("image-00000000000000000900", "image-00000000000000000901");
        assert!(Manifest::decode(&sealed(&bad)).is_err());
        let twice = format!("{text}file log/seg-000000000001 5000 00000007\n");
        assert!(Manifest::decode(&sealed(&twice)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Manifest::decode(&data);
            let text = format!("posthorn-backup 1\n{}", String::from_utf8_lossy(&data));
            let _ = Manifest::decode(&sealed(&text));
        }
    }
}
