//! i;unicode-casemap (RFC 5051), by which texts are ordered (RFC 5256; RFC 5255, 4.3).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours.

use icu_normalizer::DecomposingNormalizerBorrowed;

/// The form whose octets are compared: title case, decomposed.
pub fn casemap(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_uppercase();
    }
    let decompose = DecomposingNormalizerBorrowed::new_nfkd();
    decompose.normalize_iter(text.chars().map(title)).collect()
}

/// The simple title case of UnicodeData, which std does not have: it is the upper case but of
/// digraphs, of Greek letters with an iota, and of Georgian.
fn title(c: char) -> char {
    match c {
        '\u{1c4}' | '\u{1c6}' => '\u{1c5}',
        '\u{1c7}' | '\u{1c9}' => '\u{1c8}',
        '\u{1ca}' | '\u{1cc}' => '\u{1cb}',
        '\u{1f1}' | '\u{1f3}' => '\u{1f2}',
        '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}' => c,
        '\u{10d0}'..='\u{10ff}' => c,
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            char::from_u32(u32::from(c) + 8).unwrap_or(c)
        }
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => char::from_u32(u32::from(c) + 9).unwrap_or(c),
        _ => {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is one letter to the comparator is one to SEARCH. Left out is the iota below a letter,
    /// which the comparator takes for another one alone than in a letter.
    #[test]
    fn searching_knows_no_less_letters_as_the_same() {
        let all = ('\u{80}'..=char::MAX).filter(|c| *c != '\u{345}');
        for c in all {
            let one = |c: char| crate::mail::fold(c.encode_utf8(&mut [0; 4]));
            assert_eq!(one(c), one(title(c)), "{c} {:x}", u32::from(c));
        }
    }

    #[test]
    fn case_and_form_do_not_matter() {
        let same = [
            ("hello", "HELLO"),
            ("ä", "A\u{308}"),
            ("ςσ", "ΣΣ"),
            ("ǆ", "ǅ"),
            ("ᾳ", "ᾼ"),
            ("ﬁ", "fi"),
            ("я", "Я"),
        ];
        for (a, b) in same {
            // A ligature has no title case: it is decomposed as it is.
            let b = if a == "ﬁ" { b.to_owned() } else { casemap(b) };
            assert_eq!(casemap(a), b, "{a}");
        }
        assert_ne!(casemap("a"), casemap("ä"));
        assert!(casemap("apple") < casemap("Äpfel"));
    }
}
