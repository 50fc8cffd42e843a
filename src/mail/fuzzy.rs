//! Texts that are looked for by words, roughly (RFC 6203).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.
//!
//! Every word must be there, in any order: as a word, as the beginning of one, inside of one, or
//! with one slip of the keyboard. Case and accents do not matter.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;

use super::text::fold;

/// Words of one text that is looked for; more say nothing new.
const MAX_WORDS: usize = 16;
/// Of one word, in bytes; a longer one is cut.
const MAX_WORD: usize = 64;
/// Shorter words have to be right.
const MIN_SLIP: usize = 4;

/// How well a word can be found, at best.
const WHOLE: u8 = 100;
const BEGINNING: u8 = 80;
const INSIDE: u8 = 60;
const SLIP: u8 = 40;

/// A text that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fuzzy {
    words: Vec<String>,
}

/// How well each of its words was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FuzzyScore(Vec<u8>);

impl Fuzzy {
    pub fn new(text: &str) -> Self {
        let text = loose(&fold(text)).into_owned();
        let mut all: Vec<String> = Vec::new();
        for word in words(&text).take(MAX_WORDS) {
            let word = cut(word).to_owned();
            if !all.contains(&word) {
                all.push(word);
            }
        }
        Self { words: all }
    }

    pub fn begin(&self) -> FuzzyScore {
        FuzzyScore(vec![0; self.words.len()])
    }

    /// Looks for the words in a folded text.
    pub fn look(&self, text: &str, score: &mut FuzzyScore) {
        let text = loose(text);
        for (word, best) in self.words.iter().zip(&mut score.0) {
            if *best < INSIDE && text.contains(word.as_str()) {
                *best = INSIDE;
            }
        }
        if score.0.iter().all(|best| *best == WHOLE) {
            return;
        }
        for found in words(&text) {
            for (word, best) in self.words.iter().zip(&mut score.0) {
                let quality = quality(word, found);
                *best = quality.max(*best);
            }
        }
    }

    /// In one text, all of it.
    pub fn score(&self, text: &str) -> u8 {
        let mut score = self.begin();
        self.look(text, &mut score);
        score.total()
    }
}

impl FuzzyScore {
    /// 0: a word is not there. What has no words is everywhere.
    pub fn total(&self) -> u8 {
        if self.0.contains(&0) {
            return 0;
        }
        let sum: u32 = self.0.iter().map(|best| u32::from(*best)).sum();
        let count = u32::try_from(self.0.len()).unwrap_or(1);
        sum.checked_div(count)
            .and_then(|mean| u8::try_from(mean).ok())
            .unwrap_or(WHOLE)
    }

    /// Nothing better can come.
    pub fn is_best(&self) -> bool {
        self.0.iter().all(|best| *best == WHOLE)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

fn cut(word: &str) -> &str {
    let mut end = word.len().min(MAX_WORD);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    &word[..end]
}

/// Without accents.
fn loose(folded: &str) -> Cow<'_, str> {
    if folded.is_ascii() {
        return Cow::Borrowed(folded);
    }
    let decompose = DecomposingNormalizerBorrowed::new_nfkd();
    let letters = decompose.normalize_iter(folded.chars());
    Cow::Owned(letters.filter(|c| !is_mark(*c)).collect())
}

/// Marks of the scripts that use them as accents; those of others are letters of their own.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

fn quality(word: &str, found: &str) -> u8 {
    if let Some(rest) = found.strip_prefix(word) {
        return if rest.is_empty() { WHOLE } else { BEGINNING };
    }
    if word.len() >= MIN_SLIP && one_slip(word, found) {
        return SLIP;
    }
    0
}

/// One letter too many, too few, wrong, or two changed about.
fn one_slip(a: &str, b: &str) -> bool {
    if a.len().abs_diff(b.len()) > 4 {
        return false;
    }
    let (mut a, mut b) = (a.chars(), b.chars());
    // Without what is the same at the beginning, and at the end.
    loop {
        let (mut one, mut other) = (a.clone(), b.clone());
        match (one.next(), other.next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (one, other),
            _ => break,
        }
    }
    loop {
        let (mut one, mut other) = (a.clone(), b.clone());
        match (one.next_back(), other.next_back()) {
            (Some(x), Some(y)) if x == y => (a, b) = (one, other),
            _ => break,
        }
    }
    let (mut one, mut other) = (a.clone(), b.clone());
    match (
        one.next(),
        one.next(),
        one.next(),
        other.next(),
        other.next(),
        other.next(),
    ) {
        (_, None, _, _, None, _) => true,
        (Some(x), Some(y), None, Some(v), Some(w), None) => (x, y) == (w, v),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(needle: &str, text: &str) -> u8 {
        Fuzzy::new(needle).score(&fold(text))
    }

    #[test]
    fn words_are_found_roughly() {
        assert_eq!(score("work", "Work"), WHOLE);
        assert_eq!(score("work", "the workshop"), BEGINNING);
        assert_eq!(score("work", "homework"), INSIDE);
        // RFC 6203, 4
        assert_eq!(score("Helo", "hello"), SLIP);
        assert_eq!(score("Helo", "help"), SLIP);
        assert_eq!(score("recieve", "Receive!"), SLIP);
        assert_eq!(score("apfel", "Äpfel"), WHOLE);
        assert_eq!(score("ÄPFEL", "apfel"), WHOLE);
        assert_eq!(score("plans thursday", "Thursday's plans"), WHOLE);
        assert_eq!(score("plan thursday", "Thursday's plans"), 90);
        assert_eq!(score("plans friday", "Thursday's plans"), 0);
        assert_eq!(score("cat", "cut"), 0);
        assert_eq!(score("", "anything"), WHOLE);
        assert_eq!(score("日本", "日本語"), BEGINNING);
    }

    #[test]
    fn one_slip_is_one() {
        for (a, b) in [
            ("word", "wor"),
            ("word", "words"),
            ("word", "ward"),
            ("word", "wrod"),
            ("word", "word"),
        ] {
            assert!(one_slip(a, b) && one_slip(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("word", "wo"),
            ("word", "wads"),
            ("word", "drow"),
            ("abcd", "badc"),
        ] {
            assert!(!one_slip(a, b) && !one_slip(b, a), "{a} {b}");
        }
    }

    #[test]
    fn what_comes_in_pieces_adds_up() {
        let fuzzy = Fuzzy::new("one two");
        let mut score = fuzzy.begin();
        fuzzy.look("one", &mut score);
        assert_eq!(score.total(), 0);
        fuzzy.look("twofold", &mut score);
        assert_eq!(score.total(), 90);
        fuzzy.look("two", &mut score);
        assert!(score.is_best() && score.total() == 100);
    }
}
