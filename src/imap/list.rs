//! Patterns of LIST and LSUB (RFC 9051, 6.3.9).
//!
//! Machine: no IO, no clock, no randomness.

/// `*` stands for anything, `%` for anything but `/`. INBOX matches in any case.
pub fn matches(pattern: &str, name: &str) -> bool {
    let inbox = name == "INBOX" || name.starts_with("INBOX/");
    if inbox && let Some(head) = pattern.get(..5).filter(|h| h.eq_ignore_ascii_case("INBOX")) {
        return wild(
            format!("INBOX{}", &pattern[head.len()..]).as_bytes(),
            name.as_bytes(),
        );
    }
    wild(pattern.as_bytes(), name.as_bytes())
}

/// Time is pattern × name at worst: states are kept, not tried again.
fn wild(pattern: &[u8], name: &[u8]) -> bool {
    let mut states = vec![false; pattern.len() + 1];
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
        let mut next = vec![false; pattern.len() + 1];
        for at in 0..pattern.len() {
            if !states[at] {
                continue;
            }
            match pattern[at] {
                b'*' => next[at] = true,
                b'%' if *b != b'/' => next[at] = true,
                b'%' => {}
                p if p == *b => next[at + 1] = true,
                _ => {}
            }
        }
        close(&mut next);
        states = next;
    }
    states[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::matches;

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
