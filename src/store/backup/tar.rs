//! The headers of a tar archive (POSIX.1-1988 ustar): as much of it as a backup needs, which is
//! plain files with short names.
//!
//! Machine: no IO, no clock, no randomness.

/// Headers, and what files are filled up to.
pub(super) const BLOCK: usize = 512;

/// Places in a header, and lengths.
const NAME: usize = 100;
const MODE: usize = 100;
const SIZE: std::ops::Range<usize> = 124..136;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: std::ops::Range<usize> = 257..263;
const PREFIX: std::ops::Range<usize> = 345..500;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Member {
    File {
        name: String,
        len: u64,
    },
    Directory,
    /// Blocks of zeros end an archive.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTar {
    #[error("it is no tar archive, or damaged")]
    Damaged,
    #[error("it has something in it that is neither a file nor a directory")]
    Other,
}

/// Bytes after a file of this length, up to the next block.
pub(super) fn padding(len: u64) -> usize {
    (len.next_multiple_of(BLOCK as u64) - len) as usize
}

/// Of a file that only its owner reads. None: the name is too long.
pub(super) fn header(name: &str, len: u64, modified_secs: u64) -> Option<[u8; BLOCK]> {
    let mut out = [0; BLOCK];
    out[..NAME]
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    let mut put = |at: usize, text: &str| {
        if let Some(place) = out.get_mut(at..at + text.len()) {
            place.copy_from_slice(text.as_bytes());
        }
    };
    put(MODE, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(136, &format!("{:011o}\0", modified_secs & 0o77_777_777_777));
    put(SUM.start, "        ");
    put(KIND, "0");
    put(MAGIC.start, "ustar\u{0}00");
    if len < 1 << 33 {
        put(SIZE.start, &format!("{len:011o}\0"));
    } else {
        // As GNU tar writes what octal digits do not hold.
        out[SIZE.start] = 0x80;
        out[SIZE.end - 8..SIZE.end].copy_from_slice(&len.to_be_bytes());
    }
    let sum = format!("{:06o}\0 ", checksum(&out));
    out[SUM].copy_from_slice(sum.as_bytes());
    Some(out)
}

fn checksum(header: &[u8; BLOCK]) -> u64 {
    let of = |at: usize, byte: u8| match SUM.contains(&at) {
        true => u64::from(b' '),
        false => u64::from(byte),
    };
    let bytes = header.iter().enumerate();
    bytes.map(|(at, byte)| of(at, *byte)).sum()
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches([' ', '\0']);
    u64::from_str_radix(text, 8).ok()
}

fn text(field: &[u8]) -> Option<&str> {
    let field = field.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(field).ok()
}

pub(super) fn parse(header: &[u8; BLOCK]) -> Result<Member, BadTar> {
    if header.iter().all(|byte| *byte == 0) {
        return Ok(Member::End);
    }
    let right = octal(&header[SUM]) == Some(checksum(header));
    if !right || !header[MAGIC].starts_with(b"ustar") {
        return Err(BadTar::Damaged);
    }
    match header[KIND] {
        b'0' | 0 => {}
        b'5' => return Ok(Member::Directory),
        _ => return Err(BadTar::Other),
    }
    let size = &header[SIZE];
    let len = match size[0] {
        0x80 => size.last_chunk().map(|raw| u64::from_be_bytes(*raw)),
        _ => octal(size),
    };
    let name = text(&header[..NAME]).map(str::to_owned);
    let prefixed = header[PREFIX].iter().any(|byte| *byte != 0);
    match (name, len) {
        // No file is so long; and none of ours has a name that needs a prefix.
        (Some(name), Some(len)) if len < 1 << 50 && !prefixed => Ok(Member::File { name, len }),
        _ => Err(BadTar::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back(name in "[a-z/-]{1,100}", len in 0..1_u64 << 50, secs in any::<u64>(), flip in 0..345_usize * 8) {
            let good = header(&name, len, secs).unwrap();
            prop_assert_eq!(parse(&good), Ok(Member::File { name, len }));
            prop_assert_eq!((len + padding(len) as u64) % 512, 0);
            let mut bad = good;
            bad[flip / 8] ^= 1 << (flip % 8);
            // Digits of the sum may be written in other ways, and the magic's version.
            prop_assert!(parse(&bad).is_err() || SUM.contains(&(flip / 8)));
        }

        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), BLOCK)) {
            let _ = parse(data.first_chunk().unwrap());
        }
    }

    #[test]
    fn the_end_and_what_is_no_file() {
        assert_eq!(parse(&[0; BLOCK]), Ok(Member::End));
        let mut link = header("posthorn-backup/log", 0, 0).unwrap();
        link[KIND] = b'2';
        let sum = format!("{:06o}\0 ", checksum(&link));
        link[SUM].copy_from_slice(sum.as_bytes());
        assert_eq!(parse(&link), Err(BadTar::Other));
        assert!(header(&"x".repeat(101), 0, 0).is_none());
    }
}
