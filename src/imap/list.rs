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
