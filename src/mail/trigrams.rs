//! Numbers for what stands side by side in a text, so that an index can tell in which messages
//! another text can't be.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//! Invariant: where BODY, TEXT or HEADER finds a text in a message, the message has all numbers
//! of the text.

use super::text::{Look, SearchScope, Tail, Walk};

/// All numbers are below this.
const NUMBERS: u32 = 1 << 24;
/// Three characters of ASCII are their own number; all others share the rest.
const ASCII: u32 = 1 << 21;
/// From here on two characters say as much as three of others: those of Chinese, Japanese and
/// Korean, most of whose words are no longer.
const WIDE: u32 = 0x2e80;
/// No character.
const NONE: u32 = u32::MAX;

/// The two characters before.
pub(super) struct Slide(u32, u32);

impl Default for Slide {
    fn default() -> Self {
        Self(NONE, NONE)
    }
}

fn is_wide(c: u32) -> bool {
    (WIDE..NONE).contains(&c)
}

/// Beyond ASCII.
fn hashed(characters: u64) -> u32 {
    let mixed = characters.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ASCII + ((mixed * u64::from(NUMBERS - ASCII)) >> 32) as u32
}

fn three(a: u32, b: u32, c: u32) -> u32 {
    if a | b | c < 0x80 {
        return a << 14 | b << 7 | c;
    }
    hashed(u64::from(a) << 42 | u64::from(b) << 21 | u64::from(c))
}

fn two(a: u32, b: u32) -> u32 {
    hashed(1 << 63 | u64::from(a) << 21 | u64::from(b))
}

impl Slide {
    fn next(&mut self, c: u32, each: &mut impl FnMut(u32)) {
        let Self(a, b) = *self;
        if is_wide(b) && is_wide(c) {
            each(two(b, c));
        }
        if a != NONE && !(is_wide(a) && is_wide(b)) {
            each(three(a, b, c));
        }
        *self = Self(b, c);
    }

    /// The next piece of the text. Any blanks in a row are one: in some places SEARCH takes them
    /// for the same, and nowhere does it find what is not found so.
    fn feed(&mut self, text: &str, each: &mut impl FnMut(u32)) {
        const BLANK: u32 = b' ' as u32;
        if text.is_ascii() {
            for b in text.bytes() {
                // As `char::is_whitespace` has it.
                if !matches!(b, b' ' | b'\t'..=b'\r') {
                    self.next(u32::from(b), each);
                } else if self.1 != BLANK {
                    self.next(BLANK, each);
                }
            }
            return;
        }
        for c in text.chars() {
            if !c.is_whitespace() {
                self.next(u32::from(c), each);
            } else if self.1 != BLANK {
                self.next(BLANK, each);
            }
        }
    }
}

/// The numbers of a (folded) text that is looked for, rising; none where it is too short.
pub fn trigrams(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    Slide::default().feed(text, &mut |number| all.push(number));
    all.sort_unstable();
    all.dedup();
    all
}

/// Finds the numbers of messages, one message after the other.
pub struct Trigrams {
    seen: Vec<u64>,
    found: Vec<u32>,
    most: usize,
    full: bool,
}

impl Trigrams {
    /// Of no message more than `most`.
    pub fn new(most: usize) -> Self {
        Self {
            seen: vec![0; NUMBERS as usize / 64],
            found: Vec::new(),
            most,
            full: false,
        }
    }

    /// The numbers of a message, in any order. None: they are too many.
    pub fn of(&mut self, raw: &[u8]) -> Option<&[u32]> {
        for number in self.found.drain(..) {
            if let Some(word) = self.seen.get_mut(number as usize / 64) {
                *word = 0;
            }
        }
        self.full = false;
        let mut walk = Walk::new();
        while !walk.is_over() && !self.full {
            walk.step(raw, self);
        }
        (!self.full).then_some(&*self.found)
    }

    fn feed(&mut self, slide: &mut Slide, text: &str) {
        let (seen, found) = (&mut self.seen, &mut self.found);
        let (most, full) = (self.most, &mut self.full);
        slide.feed(text, &mut |number| {
            let Some(word) = seen.get_mut(number as usize / 64) else {
                return;
            };
            let bit = 1 << (number % 64);
            if *word & bit == 0 {
                *full |= found.len() >= most;
                if !*full {
                    *word |= bit;
                    found.push(number);
                }
            }
        });
    }
}

impl Look for Trigrams {
    fn wants(&self, _: SearchScope) -> bool {
        true
    }

    fn field(&mut self, _: SearchScope, text: &str) {
        self.feed(&mut Slide::default(), text);
    }

    fn piece(&mut self, tail: &mut Tail, text: &str) {
        self.feed(&mut tail.slide, text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::mail::fold;

    #[test]
    fn ascii_is_its_own_number_and_blanks_are_one() {
        assert_eq!(trigrams("abc"), [0x61 << 14 | 0x62 << 7 | 0x63]);
        assert!(trigrams("ab").is_empty());
        assert!(trigrams("  \t\r\n ").is_empty());
        assert_eq!(trigrams("a \t b"), trigrams("a\r\nb"));
        assert_eq!(trigrams("a\u{a0}b"), trigrams("a b"));
    }

    #[test]
    fn two_letters_are_enough_where_words_are_short() {
        assert_eq!(trigrams("\u{65e5}\u{672c}").len(), 1);
        assert!(trigrams("\u{65e5}").is_empty());
        // Both the beginning and the middle of a word.
        let long = trigrams("in \u{65e5}\u{672c}\u{8a9e}.");
        for short in [
            "\u{65e5}\u{672c}",
            "\u{672c}\u{8a9e}",
            "n \u{65e5}",
            "in \u{65e5}\u{672c}",
        ] {
            assert!(trigrams(short).iter().all(|n| long.contains(n)), "{short}");
        }
    }

    #[test]
    fn what_a_message_says_too_much_of_is_not_known() {
        let raw = b"Subject: x\r\n\r\nabcdefghijklmnopqrstuvwxyz\r\n";
        assert_eq!(Trigrams::new(20).of(raw), None);
        let mut all = Trigrams::new(200);
        let before = all.of(raw).unwrap().to_vec();
        assert!(before.contains(&trigrams("xyz")[0]));
        // Nothing is left of the message before.
        assert!(
            !all.of(b"Subject: y\r\n\r\n")
                .unwrap()
                .contains(&trigrams("xyz")[0])
        );
        assert_eq!(all.of(raw).unwrap(), before);
    }

    /// Indexes are made of these numbers: when this fails, `store::fulltext` needs another form.
    #[test]
    fn numbers_never_change() {
        let raw = "From: J\u{f6}rg <a@x.test>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
            Content-Type: text/html\r\n\r\n<p>&euro; \u{65e5}\u{672c}  \u{394}\u{39f}\u{3a3}</p>";
        let mut found = Trigrams::new(1000).of(raw.as_bytes()).unwrap().to_vec();
        found.sort_unstable();
        let bytes: Vec<u8> = found.iter().flat_map(|n| n.to_be_bytes()).collect();
        assert_eq!((found.len(), crc32fast::hash(&bytes)), (73, 870_436_207));
        assert!(
            trigrams(&fold("\u{3b4}\u{3bf}\u{3c2}"))
                .iter()
                .all(|n| found.contains(n))
        );
    }
}
