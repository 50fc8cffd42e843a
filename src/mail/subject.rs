//! The base subject, by which messages are sorted and threaded (RFC 5256, 2.1 and 5).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours.
//! Invariant: linear, no recursion.

/// A subject without what mailers add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseSubject {
    pub text: String,
    /// Something was removed that marks a reply or a forwarded message.
    pub is_reply: bool,
}

/// Of a subject that is decoded already. The steps are those of RFC 5256, 2.1.
pub fn base_subject(subject: &str) -> BaseSubject {
    // (1)
    let subject = one_blank(subject);
    let mut text = subject.as_str();
    let mut is_reply = false;
    loop {
        // (2)
        loop {
            if let Some(rest) = text.strip_suffix(' ') {
                text = rest;
            } else if let Some(rest) = without_suffix(text, "(fwd)") {
                (text, is_reply) = (rest, true);
            } else {
                break;
            }
        }
        // (3) to (5)
        loop {
            let blobs = blobs(text);
            if let Some(rest) = refwd(&text[blobs..]) {
                (text, is_reply) = (rest, true);
            } else if let Some(rest) = text.strip_prefix(' ') {
                text = rest;
            } else {
                // No reply comes behind these: all of them go, unless nothing would be left.
                text = match &text[blobs..] {
                    "" => &text[last_blob(&text[..blobs])..],
                    rest => rest,
                };
                break;
            }
        }
        // (6)
        match without_prefix(text, "[fwd:").and_then(|rest| rest.strip_suffix(']')) {
            Some(rest) => (text, is_reply) = (rest, true),
            None => break,
        }
    }
    BaseSubject {
        text: text.to_owned(),
        is_reply,
    }
}

fn one_blank(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for c in subject.chars() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c => out.push(c),
        }
    }
    out
}

fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn without_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (rest, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(rest)
}

/// Length of a subj-blob that the text begins with: `[...]` and blanks.
fn blob(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    let rest = inner[end..].strip_prefix(']')?;
    Some(text.len() - rest.trim_start_matches(' ').len())
}

/// Length of all subj-blobs that the text begins with.
fn blobs(text: &str) -> usize {
    let mut at = 0;
    while let Some(length) = blob(&text[at..]) {
        at += length;
    }
    at
}

/// Where the last of them begins.
fn last_blob(text: &str) -> usize {
    let (mut at, mut last) = (0, 0);
    while let Some(length) = blob(&text[at..]) {
        (last, at) = (at, at + length);
    }
    last
}

/// What is behind a subj-refwd.
fn refwd(text: &str) -> Option<&str> {
    let rest = ["re", "fwd", "fw"]
        .iter()
        .find_map(|word| without_prefix(text, word))?;
    let rest = rest.trim_start_matches(' ');
    rest[blob(rest).unwrap_or(0)..].strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mailers_add_goes() {
        let cases = [
            ("", "", false),
            ("hello", "hello", false),
            ("Re: hello", "hello", true),
            ("RE:hello", "hello", true),
            ("re : hello", "hello", true),
            ("re[2]: hello", "hello", true),
            ("fw: hello", "hello", true),
            ("FWD: Re: hello", "hello", true),
            ("fwdx: hello", "fwdx: hello", false),
            ("hello (fwd)", "hello", true),
            ("hello (FWD) (fwd)  ", "hello", true),
            ("[list] hello", "hello", false),
            ("[list] Re: hello", "hello", true),
            ("Re: [list] hello", "hello", true),
            ("Re: [a] [b] Fwd [c] : [d] hello", "hello", true),
            ("[a][b][c]", "[c]", false),
            ("Re: [list]", "[list]", true),
            ("[list] re:", "", true),
            ("[fwd: hello]", "hello", true),
            ("[Fwd: Re: [list] hello (fwd)]", "hello", true),
            ("[fwd: [fwd: hello]] (fwd)", "hello", true),
            ("[fwd: hello] x", "x", false),
            ("Re: \t [x", "[x", true),
            ("re", "re", false),
            ("  two   words\t here ", "two words here", false),
            ("Réunion", "Réunion", false),
            ("[é] Re[ü]: ö", "ö", true),
        ];
        for (subject, base, is_reply) in cases {
            let found = base_subject(subject);
            assert_eq!(
                (found.text.as_str(), found.is_reply),
                (base, is_reply),
                "{subject:?}"
            );
        }
    }

    #[test]
    fn long_ones_take_no_long_time() {
        for pattern in ["[a]", "[fwd:", "re:", "(fwd)", "[a] re [", " \t"] {
            let _ = base_subject(&pattern.repeat(20_000));
            let _ = base_subject(&format!("{}x{}", pattern.repeat(9_000), "]".repeat(9_000)));
        }
    }
}
