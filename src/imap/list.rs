//! Patterns of LIST and LSUB (RFC 9051, 6.3.9).
//!
//! Machine: no IO, no clock, no randomness.

use crate::types::nfc;
use crate::types::utf7;

/// A pattern, or the reference before it. Text is in form C, as names are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// It cuts through a run of modified UTF-7, so it stays as it came and is compared with
    /// names as they are written then.
    cut: bool,
}

impl Pattern {
    /// `utf8`: the client writes names as they are (IMAP4rev2 is enabled).
    pub fn new(wire: String, utf8: bool) -> Self {
        let known = if utf8 || !wire.is_ascii() {
            Some(wire.clone())
        } else {
            utf7::decode(&wire)
        };
        match known {
            Some(text) => Self {
                text: nfc(&text).into_owned(),
                cut: false,
            },
            None => Self {
                text: wire,
                cut: true,
            },
        }
    }

    /// This pattern behind a reference.
    pub fn after(&self, reference: &Self) -> Self {
        if !self.cut && !reference.cut {
            // They may compose where they meet.
            let text = format!("{}{}", reference.text, self.text);
            return Self::new(text, true);
        }
        let wire = |piece: &Self| match piece.cut {
            true => piece.text.clone(),
            false => utf7::encode(&piece.text),
        };
        Self::new(wire(reference) + &wire(self), false)
    }

    pub fn matches(&self, name: &str) -> bool {
        if self.cut {
            matches(&self.text, &utf7::encode(name))
        } else {
            matches(&self.text, name)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Could it match a name that begins so, or a parent of one?
    pub fn may_be_below(&self, head: &str) -> bool {
        let fixed = self.text.split(['*', '%']).next().unwrap_or_default();
        let mut pairs = fixed.bytes().zip(head.bytes());
        self.cut || pairs.all(|(a, b)| a == b)
    }
}

/// `*` stands for anything, `%` for anything but `/`. INBOX matches in any case.
fn matches(pattern: &str, name: &str) -> bool {
    let inbox = name == "INBOX" || name.starts_with("INBOX/");
    if inbox && let Some(head) = pattern.get(..5).filter(|h| h.eq_ignore_ascii_case("INBOX")) {
        return wild(
            format!("INBOX{}", &pattern[head.len()..]).as_bytes(),
            name.as_bytes(),
        );
    }
    wild(pattern.as_bytes(), name.as_bytes())
}

/// Longest pattern, and most patterns of one command: matching costs pattern times name.
pub const MAX_PATTERN: usize = 2048;
pub const MAX_PATTERNS: usize = 64;

/// Time is pattern × name at worst: states are kept, not tried again.
fn wild(pattern: &[u8], name: &[u8]) -> bool {
    let mut states = vec![false; pattern.len() + 1];
    let mut next = states.clone();
    states[0] = true;
    let close = |states: &mut [bool]| {
        for at in 0..pattern.len() {
            if states[at] && matches!(pattern[at], b'*' | b'%') {
                states[at + 1] = true;
            }
        }
    };
    close(&mut states);
    for b in name {
        next.fill(false);
        let mut alive = false;
        for at in 0..pattern.len() {
            if !states[at] {
                continue;
            }
            let to = match pattern[at] {
                b'*' => at,
                b'%' if *b != b'/' => at,
                b'%' => continue,
                p if p == *b => at + 1,
                _ => continue,
            };
            next[to] = true;
            alive = true;
        }
        if !alive {
            return false;
        }
        close(&mut next);
        std::mem::swap(&mut states, &mut next);
    }
    states[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::{Pattern, matches};

    #[test]
    fn runs_that_are_cut() {
        let pattern = |reference: &str, pattern: &str| {
            let reference = Pattern::new(reference.into(), false);
            Pattern::new(pattern.into(), false).after(&reference)
        };
        for (reference, after, name, expected) in [
            ("", "a&APw-*", "aüb", true),
            ("", "a&APw*", "aüb", true),
            ("", "a&APw*", "aüü", true),
            ("a&A", "Pw-b", "aüb", true),
            ("a&APw-", "b&A*", "aübü", true),
            ("", "a&-*", "a&b", true),
            // `a&*` would match what is written a&APw-.
            ("", "a&-*", "aüb", false),
            ("", "&", "&", false),
        ] {
            let found = pattern(reference, after).matches(name);
            assert_eq!(found, expected, "{reference}{after} {name}");
        }
        assert!(Pattern::new("aü*".into(), false).matches("aüb"));
        assert!(!Pattern::new("a&APw-".into(), true).matches("aü"));
    }

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("a/%", "a/b", true),
            ("a/%", "a/b/c", false),
            ("%/%", "a/b", true),
            ("inbox", "INBOX", true),
            ("InBoX/%", "INBOX/x", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("", "a", false),
            ("INB*", "INBOX", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }
}
