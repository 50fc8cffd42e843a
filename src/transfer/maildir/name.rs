//! Names of messages in a Maildir: `BASE:2,FLAGS`, in which Dovecot's base has `,S=bytes` and
//! `,W=bytes with CRLF`.
//!
//! Machine: no IO, no clock, no randomness.

use crate::types::{Flag, SystemFlags};

/// System flags by their letters (<https://cr.yp.to/proto/maildir.html>).
const LETTERS: [(u8, SystemFlags); 5] = [
    (b'D', SystemFlags::DRAFT),
    (b'F', SystemFlags::FLAGGED),
    (b'R', SystemFlags::ANSWERED),
    (b'S', SystemFlags::SEEN),
    (b'T', SystemFlags::DELETED),
];

/// A keyword has one of the letters a to z, by its place in `dovecot-keywords`.
pub const KEYWORDS: usize = 26;

/// The name without what may change: two names with one base are one message.
pub fn base(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|b| *b == b':').unwrap_or(name.len());
    &name[..end]
}

/// The flags of a message; `keywords` are those of its folder.
pub fn flags(name: &[u8], keywords: &[Option<String>]) -> Vec<Flag> {
    let info = &name[base(name).len()..];
    let Some(letters) = info.strip_prefix(b":2,") else {
        return Vec::new();
    };
    // A comma begins what only one program knows.
    let letters = letters.split(|b| *b == b',').next().unwrap_or(&[]);
    let mut flags = Vec::new();
    for letter in letters {
        let flag = match letter {
            b'P' => Some(Flag::Keyword("$Forwarded".into())),
            b'a'..=b'z' => {
                let name = keywords.get(usize::from(letter - b'a')).cloned().flatten();
                name.and_then(|name| Flag::parse(&name).ok())
            }
            _ => LETTERS
                .iter()
                .find(|(l, _)| l == letter)
                .map(|(_, flag)| Flag::System(*flag)),
        };
        flags.extend(flag.filter(|flag| !flags.contains(flag)));
    }
    flags
}

/// The letters of flags, in order; `keywords` grows by those that it has not, and the second
/// value is the number of those that found no room.
pub fn letters(flags: &[Flag], keywords: &mut Vec<String>) -> (String, u32) {
    let (mut letters, mut lost) = (Vec::new(), 0);
    for flag in flags {
        match flag {
            Flag::System(flag) => {
                letters.extend(LETTERS.iter().filter(|(_, f)| f == flag).map(|(l, _)| *l));
            }
            Flag::Keyword(name) => {
                let known = keywords.iter().position(|k| k.eq_ignore_ascii_case(name));
                match known {
                    Some(at) => letters.push(b'a' + at as u8),
                    None if keywords.len() < KEYWORDS => {
                        letters.push(b'a' + keywords.len() as u8);
                        keywords.push(name.clone());
                    }
                    None => lost += 1,
                }
            }
        }
    }
    letters.sort_unstable();
    (letters.into_iter().map(char::from).collect(), lost)
}

/// The order in which messages came: by the time that their names begin with, then by the
/// microseconds that many programs put behind `M`.
pub fn order(name: &[u8]) -> (u64, u64) {
    let number = |bytes: &[u8]| {
        let digits = bytes.iter().take_while(|b| b.is_ascii_digit());
        digits.fold(0u64, |n, d| {
            n.saturating_mul(10).saturating_add(u64::from(d - b'0'))
        })
    };
    let rest = name.iter().position(|b| *b == b'.').unwrap_or(name.len());
    let micros = match name.get(rest..) {
        Some([b'.', b'M', rest @ ..]) => number(rest),
        _ => 0,
    };
    (number(name), micros)
}

/// `dovecot-keywords`: a number and a name on each line.
pub fn dovecot_keywords(text: &str) -> Vec<Option<String>> {
    let mut keywords = vec![None; KEYWORDS];
    for line in text.lines() {
        if let Some((number, name)) = line.split_once(' ')
            && let Ok(number) = number.parse::<usize>()
            && let Some(place) = keywords.get_mut(number)
        {
            *place = Some(name.to_owned());
        }
    }
    keywords
}

/// The other way.
pub fn write_dovecot_keywords(keywords: &[String]) -> String {
    let lines = keywords.iter().enumerate();
    lines.map(|(n, name)| format!("{n} {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyword(name: &str) -> Flag {
        Flag::Keyword(name.into())
    }

    #[test]
    fn names() {
        let keywords = dovecot_keywords("0 Kw1\n2 $Junk\nx y\n99 far\n");
        let seen = Flag::System(SystemFlags::SEEN);
        for (name, base_is, flags_are) in [
            ("1.M2P3.host,S=11,W=13:2,Sac", "1.M2P3.host,S=11,W=13", {
                vec![seen.clone(), keyword("Kw1"), keyword("$Junk")]
            }),
            ("1.x.h", "1.x.h", vec![]),
            ("1.x.h:2,", "1.x.h", vec![]),
            ("1.x.h:1,S", "1.x.h", vec![]),
            (
                "1.x.h:2,PSSz,xF",
                "1.x.h",
                vec![keyword("$Forwarded"), seen],
            ),
        ] {
            assert_eq!(base(name.as_bytes()), base_is.as_bytes());
            assert_eq!(flags(name.as_bytes(), &keywords), flags_are, "{name}");
        }
    }

    #[test]
    fn letters_are_sorted_and_find_their_way_back() {
        let mut keywords = vec!["Old".to_owned()];
        let all: Vec<Flag> = SystemFlags::ALL
            .iter()
            .map(|(flag, _)| Flag::System(*flag))
            .chain([keyword("New"), keyword("old")])
            .collect();
        assert_eq!(letters(&all, &mut keywords), ("DFRSTab".into(), 0));
        let back = flags(
            b"x:2,DFRSTab",
            &dovecot_keywords(&write_dovecot_keywords(&keywords)),
        );
        assert_eq!(back.len(), all.len());
        let many: Vec<_> = (0..30).map(|n| keyword(&format!("k{n}"))).collect();
        assert_eq!(letters(&many, &mut keywords).1, 6);
    }

    #[test]
    fn the_order_is_that_of_arrival() {
        let mut names = [
            &b"20.b"[..],
            b"9.c",
            b"20.M7P1.h",
            b"20.M12P1.h:2,S",
            b"odd",
        ];
        names.sort_by_key(|name| order(name));
        assert_eq!(
            names,
            [
                &b"odd"[..],
                b"9.c",
                b"20.b",
                b"20.M7P1.h",
                b"20.M12P1.h:2,S"
            ]
        );
    }
}
