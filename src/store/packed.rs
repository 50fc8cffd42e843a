//! Summaries as they are kept, in the log and in the index: most of a store's bytes beside the
//! bodies would be theirs, and they all look alike.
//!
//! May import: mail.
//!
//! The dictionary belongs to the format: it is never changed. Another one would be another
//! variant of [`Kept`].

use std::sync::LazyLock;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use crate::mail::{Summary, Traits};

/// A summary of a message. Variants are only ever appended: their numbers are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// It did not fit: compute it from the body with `mail::summarize`.
    #[default]
    Nothing,
    Plain(Box<Summary>),
    /// Compressed with the first dictionary.
    Packed(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// What most summaries have, the most usual last.
const DICTIONARY: &[u8] = include_bytes!("packed.dictionary");
/// Below zero letters are not packed, only what repeats: an eighth larger than at level 3, and read
/// five times as fast.
const LEVEL: i32 = -1;
/// The mark that all frames of zstd begin with is left out.
const MARK: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// No summary is larger.
const MAX: usize = 64 * 1024;

impl Kept {
    /// Packed where that makes it smaller.
    pub fn pack(summary: Summary) -> Self {
        let packed = postcard::to_stdvec(&summary).ok().and_then(|plain| {
            let packed = compress(&plain)?;
            let packed = packed.strip_prefix(&MARK)?;
            (packed.len() < plain.len() && plain.len() <= MAX).then(|| packed.to_vec())
        });
        packed.map_or_else(|| Self::Plain(Box::new(summary)), Self::Packed)
    }

    /// Nothing where it can't be unpacked: then it is as if it had not fit.
    pub fn unpack(self) -> Self {
        match self {
            Self::Packed(packed) => {
                let mut plain = Vec::new();
                let unpacked = decompress(&[&MARK, &packed[..]].concat(), &mut plain);
                let summary = unpacked.and_then(|()| postcard::from_bytes(&plain).ok());
                summary.map_or(Self::Nothing, |summary| Self::Plain(Box::new(summary)))
            }
            other => other,
        }
    }

    /// The summary, where it is not packed.
    pub fn plain(&self) -> Option<&Summary> {
        match self {
            Self::Plain(summary) => Some(summary),
            _ => None,
        }
    }

    /// The summary, unpacked.
    pub fn summary(&self) -> Option<Summary> {
        match self.clone().unpack() {
            Self::Plain(summary) => Some(*summary),
            _ => None,
        }
    }
}

/// [`Kept`] as it is written.
#[derive(Deserialize)]
pub(super) enum WrittenKept<'a> {
    Nothing,
    #[serde(borrow)]
    Plain(WrittenSummary<'a>),
    Packed(&'a [u8]),
}

/// [`Summary`] as it is written.
#[derive(Deserialize)]
pub(super) struct WrittenSummary<'a> {
    envelope: &'a [u8],
    _body_structure: &'a [u8],
    _from: &'a str,
    _subject: &'a str,
    _sent: Option<u64>,
    traits: Traits,
}

/// What many messages are searched and sorted by, of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch<'a> {
    /// In wire form.
    pub envelope: &'a [u8],
    pub traits: Traits,
}

impl<'a> From<WrittenSummary<'a>> for Sketch<'a> {
    fn from(summary: WrittenSummary<'a>) -> Self {
        Self {
            envelope: summary.envelope,
            traits: summary.traits,
        }
    }
}

/// Reads many summaries with the same room to work in.
#[derive(Default)]
pub(super) struct Unpacking {
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacking {
    /// As `Kept::unpack`, of what is searched by.
    pub(super) fn sketch<'a>(&'a mut self, kept: WrittenKept<'a>) -> Option<Sketch<'a>> {
        match kept {
            WrittenKept::Nothing => None,
            WrittenKept::Plain(summary) => Some(summary.into()),
            WrittenKept::Packed(packed) => {
                self.packed.clear();
                self.packed.extend_from_slice(&MARK);
                self.packed.extend_from_slice(packed);
                decompress(&self.packed, &mut self.plain)?;
                let summary: WrittenSummary<'_> = postcard::from_bytes(&self.plain).ok()?;
                Some(summary.into())
            }
        }
    }
}

static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

/// As with bodies: contexts are slow to make, so a few are kept.
const POOLED: usize = 4;
static COMPRESSORS: Mutex<Vec<Compressor<'static>>> = Mutex::new(Vec::new());
static DECOMPRESSORS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let pooled = COMPRESSORS.lock().pop();
    let mut context = match pooled {
        Some(context) => context,
        None => Compressor::with_prepared_dictionary(&ENCODER).ok()?,
    };
    let packed = context.compress(plain).ok()?;
    give_back(&COMPRESSORS, context);
    Some(packed)
}

fn decompress(packed: &[u8], plain: &mut Vec<u8>) -> Option<()> {
    let pooled = DECOMPRESSORS.lock().pop();
    let mut context = match pooled {
        Some(context) => context,
        None => Decompressor::with_prepared_dictionary(&DECODER).ok()?,
    };
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok()??;
    plain.clear();
    plain.reserve(usize::try_from(size).ok()?.min(MAX));
    context.decompress_to_buffer(packed, plain).ok()?;
    give_back(&DECOMPRESSORS, context);
    Some(())
}

fn give_back<T>(pool: &Mutex<Vec<T>>, context: T) {
    let mut pool = pool.lock();
    if pool.len() < POOLED {
        pool.push(context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::summarize;

    fn usual() -> Summary {
        summarize(
            b"Date: Tue, 3 Mar 2026 10:11:12 +0100\r\nFrom: Carol Example <carol@example.org>\r\n\
              To: alice@posthorn.test\r\nSubject: The plans for Thursday\r\n\
              Message-ID: <18eb664dc3e391ad.1@mail.example.org>\r\nMIME-Version: 1.0\r\n\
              Content-Type: multipart/alternative; boundary=\"=_b9a30cc0dc7f50ae4a\"\r\n\r\n\
              --=_b9a30cc0dc7f50ae4a\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHi\r\n\
              --=_b9a30cc0dc7f50ae4a\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Hi\r\n\
              --=_b9a30cc0dc7f50ae4a--\r\n",
        )
    }

    #[test]
    fn comes_back_at_less_than_half() {
        let summary = usual();
        let plain = postcard::to_stdvec(&summary).unwrap().len();
        let Kept::Packed(packed) = Kept::pack(summary.clone()) else {
            panic!("not packed");
        };
        assert!(packed.len() * 2 < plain, "{} of {plain}", packed.len());
        let kept = Kept::Packed(packed);
        assert_eq!(kept.summary().as_ref(), Some(&summary));
        let mut unpacking = Unpacking::default();
        for kept in [kept, Kept::Plain(Box::new(summary.clone()))] {
            let written = postcard::to_stdvec(&kept).unwrap();
            let written = postcard::from_bytes(&written).unwrap();
            let sketch = Sketch {
                envelope: &summary.envelope,
                traits: summary.traits,
            };
            assert_eq!(unpacking.sketch(written), Some(sketch));
        }
        assert_eq!(unpacking.sketch(WrittenKept::Nothing), None);
        let nothing = Summary::default();
        let small = Kept::pack(nothing.clone());
        assert_eq!(small.plain(), Some(&nothing), "not made larger");
    }

    #[test]
    fn rubbish_is_nothing() {
        let Kept::Packed(packed) = Kept::pack(usual()) else {
            panic!("not packed");
        };
        for len in 0..packed.len() {
            let cut = Kept::Packed(packed[..len].to_vec());
            assert_eq!(cut.unpack(), Kept::Nothing, "{len}");
        }
        for at in 0..packed.len() {
            let mut flipped = packed.clone();
            flipped[at] ^= 0x55;
            // Whatever comes out, it is no crash and no endless memory.
            let _ = Kept::Packed(flipped).unpack();
        }
    }

    /// What was written before summaries were packed, and what must be read for ever.
    #[test]
    fn the_form_is_that_of_an_option_and_one_more() {
        let plain = postcard::to_stdvec(&Some(usual())).unwrap();
        let kept: Kept = postcard::from_bytes(&plain).unwrap();
        assert_eq!(kept.plain(), Some(&usual()));
        assert_eq!(postcard::from_bytes(&[0]), Ok(Kept::Nothing));
        assert_eq!(crc32fast::hash(DICTIONARY), DICTIONARY_SUM);
    }

    const DICTIONARY_SUM: u32 = 0x4aa8d63a;
}
