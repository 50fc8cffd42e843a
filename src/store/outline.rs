//! The store's face, continued: where the parts of large messages lie, found by reading them in
//! pieces and kept for whoever asks for the next part.
//!
//! May import: mail, types.
//!
//! Invariant: what is kept is no larger than `store.outline_bytes`, and nothing of it ever
//! changes of a message.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::StoreError;
use super::handle::Store;
use crate::mail::{Decoder, Node, Structure, StructureReader};
use crate::types::{BlobId, MailboxKey, Uid};

/// What is read at a time of a large message; the store's bodies are made of such pieces.
const STEP: u64 = 256 * 1024;
/// What each part may take besides its node.
const PART: usize = 128;
/// Outlines that are looked through for the one that is wanted.
const MOST: usize = 512;

/// Reads a part of a message.
pub type Read<'a> = &'a mut dyn FnMut(Range<u64>) -> Result<Bytes, StoreError>;

/// Where the next piece of a message ends that is read from `at` up to `end`. `own` is the
/// length of its own header lines: what follows is read as it is stored.
pub fn step(at: u64, own: u64, end: u64) -> u64 {
    let into = at.saturating_sub(own);
    let next = own.saturating_add((into / STEP + 1) * STEP);
    next.min(end)
}

/// The parts of a message.
pub struct Outline {
    pub structure: Structure,
    /// Parts that somebody wanted decoded, by where they lie.
    decoded: Mutex<HashMap<Range<u64>, Arc<Decoded>>>,
}

impl Outline {
    pub fn new(structure: Structure) -> Self {
        Self {
            structure,
            decoded: Mutex::default(),
        }
    }

    /// How the content of the part at `range` lies in it. Reads the part where nobody asked
    /// before: then the second is true.
    pub fn decoded(
        &self,
        range: Range<u64>,
        own: u64,
        decoder: Decoder,
        read: Read<'_>,
    ) -> Result<(Arc<Decoded>, bool), StoreError> {
        if let Some(known) = self.decoded.lock().get(&range) {
            return Ok((known.clone(), false));
        }
        let found = Arc::new(Decoded::find(range.clone(), own, decoder, read)?);
        self.decoded.lock().insert(range, found.clone());
        Ok((found, true))
    }
}

/// Content of a part in a transfer encoding.
pub struct Decoded {
    pub len: u64,
    /// Where decoding can begin: places in the message and in the content, in their order.
    points: Vec<(u64, u64, Decoder)>,
}

impl Decoded {
    fn find(
        range: Range<u64>,
        own: u64,
        mut decoder: Decoder,
        read: Read<'_>,
    ) -> Result<Self, StoreError> {
        let mut points = vec![(range.start, 0, decoder.clone())];
        let (mut at, mut len, mut out) = (range.start, 0, Vec::new());
        while at < range.end {
            let end = step(at, own, range.end);
            decoder.feed(&read(at..end)?, &mut out);
            at = end;
            len += out.len() as u64;
            out.clear();
            let (again, fresh) = decoder.resume();
            if at < range.end {
                points.push((at - again as u64, len, fresh));
            }
        }
        decoder.finish(&mut out);
        Ok(Self {
            len: len + out.len() as u64,
            points,
        })
    }

    /// Where to begin for what lies at `offset` of the content: a place in the message, one in
    /// the content that is no later, and a decoder for what follows.
    pub fn begin(&self, offset: u64) -> Option<(u64, u64, Decoder)> {
        let after = self.points.partition_point(|(_, done, _)| *done <= offset);
        self.points.get(after.max(1) - 1).cloned()
    }

    /// A place of the message behind all that `wanted` of the content is made of, where that
    /// begins; None: its end.
    pub fn end(&self, wanted: u64) -> Option<u64> {
        let after = self.points.partition_point(|(_, done, _)| *done < wanted);
        // A line that is cut by the place is read to its end.
        self.points.get(after).map(|(at, _, _)| at + STEP)
    }
}

type Key = (MailboxKey, Uid, BlobId);

/// Outlines of large messages, those that were wanted last in front.
#[derive(Default)]
pub(super) struct Outlines {
    known: VecDeque<(Key, Arc<Outline>, usize)>,
    bytes: usize,
}

impl Outlines {
    fn get(&mut self, key: &Key) -> Option<Arc<Outline>> {
        let at = self.known.iter().position(|(known, ..)| known == key)?;
        let found = self.known.remove(at)?;
        let outline = found.1.clone();
        self.known.push_front(found);
        Some(outline)
    }

    fn put(&mut self, key: Key, outline: Arc<Outline>, weight: usize, most: usize) {
        if weight > most || self.get(&key).is_some() {
            return;
        }
        self.bytes += weight;
        self.known.push_front((key, outline, weight));
        while self.bytes > most || self.known.len() > MOST {
            let Some((.., weight)) = self.known.pop_back() else {
                break;
            };
            self.bytes -= weight;
        }
    }
}

/// What an outline of a message of `size` bytes takes, with all that may come to it.
fn weight(structure: &Structure, size: u64) -> usize {
    let node =
        |node: &Node| size_of::<Node>() + PART + node.encoding.as_ref().map_or(0, String::len);
    let points = (size / STEP) as usize * size_of::<(u64, u64, Decoder)>();
    structure.nodes().iter().map(node).sum::<usize>() + points
}

impl Store {
    /// The parts of a large message. Reads it in pieces where nobody asked before: then the
    /// second is true.
    pub fn outline(
        &self,
        (mailbox, uid, blob): (MailboxKey, Uid, BlobId),
        size: u64,
        own: u64,
        read: Read<'_>,
    ) -> Result<(Arc<Outline>, bool), StoreError> {
        let key = (mailbox, uid, blob);
        let known = &self.shared().outlines;
        if let Some(outline) = known.lock().get(&key) {
            return Ok((outline, false));
        }
        let mut reader = StructureReader::new(0);
        let mut at = 0;
        while at < size {
            let end = step(at, own, size);
            reader.feed(&read(at..end)?);
            at = end;
        }
        let mut structure = reader.finish().0;
        structure.strip();
        let weight = weight(&structure, size);
        let outline = Arc::new(Outline::new(structure));
        let most = self.shared().options.config.outline_bytes;
        known.lock().put(key, outline.clone(), weight, most);
        Ok((outline, true))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::types::{AccountId, MailboxId};

    /// Whatever offset is wanted, decoding may begin at a point near to it.
    #[test]
    fn content_is_found_from_the_middle() {
        let bytes: Vec<u8> = (0..700_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let base64 = {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            let lines = text
                .as_bytes()
                .chunks(75)
                .map(|line| [line, b"\r\n"].concat());
            lines.collect::<Vec<_>>().concat()
        };
        let quoted: Vec<u8> = (0..60_000)
            .map(|n| format!("line=20{n} of=\r\n  it =C3=BC \r\n"))
            .collect::<String>()
            .into_bytes();
        let long = "=41bc d".repeat(150_000).into_bytes();
        for (encoding, body) in [
            ("base64", base64),
            ("quoted-printable", quoted),
            ("quoted-printable", long),
        ] {
            for own in [0, 1000] {
                let mut whole = Vec::new();
                let mut decoder = Decoder::new(Some(encoding)).unwrap();
                decoder.feed(&body, &mut whole);
                decoder.finish(&mut whole);
                let raw = [&vec![b'='; 333][..], &body].concat();
                let range = 333..raw.len() as u64;
                let cut = |range: Range<u64>| {
                    let (from, to) = (range.start as usize, range.end as usize);
                    Ok(Bytes::copy_from_slice(&raw[from..to]))
                };
                let fresh = Decoder::new(Some(encoding)).unwrap();
                let decoded = Decoded::find(range.clone(), own, fresh, &mut { cut }).unwrap();
                assert_eq!(decoded.len, whole.len() as u64);
                assert!(decoded.points.len() >= 3);
                for from in (0..decoded.len).step_by(50_000) {
                    let (at, done, mut decoder) = decoded.begin(from).unwrap();
                    assert!(done <= from && from - done <= 2 * STEP);
                    let to = (from + 1000).min(decoded.len);
                    let end = decoded.end(to).map_or(range.end, |end| end.min(range.end));
                    let mut out = Vec::new();
                    decoder.feed(&raw[at as usize..end as usize], &mut out);
                    if end == range.end {
                        decoder.finish(&mut out);
                    }
                    let (from, to) = (from as usize, to as usize);
                    let skip = from - done as usize;
                    assert!(
                        out[skip..skip + to - from] == whole[from..to],
                        "{encoding} {from}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let outline = |parts: usize| {
            let raw = "--b\r\n\r\nx\r\n".repeat(parts);
            let raw = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{raw}--b--\r\n");
            Arc::new(Outline::new(Structure::parse(raw.as_bytes())))
        };
        let key = |n: u32| {
            let mailbox = MailboxKey {
                account: AccountId(1),
                mailbox: MailboxId(1),
            };
            (mailbox, Uid(n), BlobId([0; 16]))
        };
        let (small, large) = (outline(2), outline(1000));
        let of = |outline: &Outline| weight(&outline.structure, 1 << 20);
        let most = of(&small) * 3;
        let mut kept = Outlines::default();
        for n in 1..=3 {
            kept.put(key(n), small.clone(), of(&small), most);
        }
        assert!(kept.get(&key(1)).is_some());
        kept.put(key(4), small.clone(), of(&small), most);
        kept.put(key(5), large.clone(), of(&large), most);
        let there: Vec<bool> = (1..=5).map(|n| kept.get(&key(n)).is_some()).collect();
        assert_eq!(there, [true, false, true, true, false]);
        assert_eq!(kept.bytes, most);
    }
}
