//! Files beside the messages of a Maildir: `dovecot-uidlist` (versions 1 and 3),
//! `courierimapuiddb`, `courierimapkeywords/:list`, and both programs' lists of subscriptions.
//!
//! Machine: no IO, no clock, no randomness.

use std::collections::HashMap;

use super::name;

/// UIDs of a folder, by the messages' base names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UidList {
    pub validity: u32,
    pub next: u32,
    pub uids: HashMap<Box<[u8]>, u32>,
}

/// `3 V1275660208 N25022 G...` and `UID [extensions] :NAME`; version 1, which is Courier's too:
/// `1 VALIDITY NEXT` and `UID NAME`. None: it is neither.
pub fn uid_list(bytes: &[u8]) -> Option<UidList> {
    let mut lines = bytes.split(|b| *b == b'\n');
    let head = std::str::from_utf8(lines.next()?).ok()?;
    let mut words = head.trim_end().split(' ');
    let mut list = UidList::default();
    match words.next()? {
        "3" => {
            for word in words {
                match word.split_at_checked(1) {
                    Some(("V", number)) => list.validity = number.parse().ok()?,
                    Some(("N", number)) => list.next = number.parse().ok()?,
                    _ => {}
                }
            }
        }
        "1" => {
            list.validity = words.next()?.parse().ok()?;
            list.next = words.next()?.parse().ok()?;
        }
        _ => return None,
    }
    let mut last = 0;
    for line in lines {
        let Some(space) = line.iter().position(|b| *b == b' ') else {
            continue;
        };
        let uid = std::str::from_utf8(&line[..space]).ok();
        let Some(uid) = uid.and_then(|uid| uid.parse::<u32>().ok()) else {
            continue;
        };
        let rest = &line[space + 1..];
        let base = match rest.first() {
            Some(b':') => &rest[1..],
            _ => match rest.windows(2).position(|pair| pair == b" :") {
                Some(at) => &rest[at + 2..],
                None => rest,
            },
        };
        // They only rise; what does not was torn.
        if uid > last && !base.is_empty() {
            last = uid;
            list.uids.insert(name::base(base).into(), uid);
        }
    }
    // Dovecot leaves the number in the head behind while it appends lines.
    list.next = list.next.max(last.saturating_add(1));
    (list.validity != 0).then_some(list)
}

/// The first line of `dovecot-uidlist`.
pub fn uid_list_head(validity: u32, next: u32) -> String {
    format!("3 V{validity} N{next}\n")
}

/// One line of it.
pub fn uid_list_line(uid: u32, base: &str) -> String {
    format!("{uid} :{base}\n")
}

/// Dovecot's `subscriptions`, as names on disk with `separator` between levels: version 2 has
/// tabs there.
pub fn dovecot_subscriptions(text: &str, separator: char) -> Vec<String> {
    let mut lines = text.lines();
    let tabs = text.starts_with("V\t2\n");
    if tabs {
        lines.next();
    }
    let named = lines.filter(|line| !line.is_empty());
    named
        .map(|line| match tabs {
            true => line.replace('\t', &separator.to_string()),
            false => line.to_owned(),
        })
        .collect()
}

/// The other way: version 2.
pub fn write_dovecot_subscriptions<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let lines = names.map(|name| name.replace('.', "\t") + "\n");
    std::iter::once("V\t2\n\n".to_owned())
        .chain(lines)
        .collect()
}

/// `courierimapsubscribed`: `INBOX`, `INBOX.Folder.Sub`. Gives names as Dovecot has them.
pub fn courier_subscriptions(text: &str) -> Vec<String> {
    let named = text.lines().filter(|line| !line.is_empty());
    named
        .map(|line| line.strip_prefix("INBOX.").unwrap_or(line).to_owned())
        .collect()
}

/// `courierimapkeywords/:list`: names of keywords, an empty line, and `BASE:NUMBERS`.
pub fn courier_keywords(text: &str) -> HashMap<Box<[u8]>, Vec<String>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let mut all = HashMap::new();
    for line in lines {
        let Some((base, numbers)) = line.rsplit_once(':') else {
            continue;
        };
        let numbers = numbers.split(' ').filter_map(|n| n.parse::<usize>().ok());
        let keywords = numbers.filter_map(|n| names.get(n).map(|&n| n.to_owned()));
        all.insert(name::base(base.as_bytes()).into(), keywords.collect());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(list: &UidList) -> Vec<(u32, String)> {
        let names = list.uids.iter();
        let mut all: Vec<_> = names
            .map(|(name, uid)| (*uid, String::from_utf8_lossy(name).into_owned()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn uid_lists_of_dovecot_and_courier() {
        let list = uid_list(
            b"3 V1275660208 N25 G3085f01b7f11\n20 :1.M3P4.h,S=1:2,\n21 W24 S3 :2.x.h\n7 :torn\n\
              30 :3.y.h\nrubbish\n",
        )
        .expect("a list");
        assert_eq!((list.validity, list.next), (1_275_660_208, 31));
        let named = |uid, name: &str| (uid, name.to_owned());
        assert_eq!(
            uids(&list),
            [
                named(20, "1.M3P4.h,S=1"),
                named(21, "2.x.h"),
                named(30, "3.y.h")
            ]
        );
        let list = uid_list(b"1 77 9\n4 1.a.h\n8 2.b.h:2,S\n").expect("a list");
        assert_eq!((list.validity, list.next), (77, 9));
        assert_eq!(uids(&list), [named(4, "1.a.h"), named(8, "2.b.h")]);
        for bad in ["", "2 V1 N1\n", "3 N1\n", "1 x 2\n", "3 Vx N1\n"] {
            assert_eq!(uid_list(bad.as_bytes()), None, "{bad}");
        }
        let made = uid_list_head(7, 9) + &uid_list_line(8, "b,S=1");
        let list = uid_list(made.as_bytes()).expect("a list");
        assert_eq!((list.validity, list.next), (7, 9));
        assert_eq!(uids(&list), [named(8, "b,S=1")]);
    }

    #[test]
    fn subscriptions() {
        let v2 = "V\t2\n\nEntw&APw-rfe\nSub\tFolder\n";
        assert_eq!(
            dovecot_subscriptions(v2, '.'),
            ["Entw&APw-rfe", "Sub.Folder"]
        );
        assert_eq!(dovecot_subscriptions("INBOX\nA.B\n", '.'), ["INBOX", "A.B"]);
        let names = ["Entw&APw-rfe", "Sub.Folder"];
        assert_eq!(write_dovecot_subscriptions(names.into_iter()), v2);
        assert_eq!(
            courier_subscriptions("INBOX\nINBOX.Sent\nINBOX.A.B\n"),
            ["INBOX", "Sent", "A.B"]
        );
    }

    #[test]
    fn keywords_of_courier() {
        let all = courier_keywords("Work\n$Label1\n\n1.a.h:0 1\n2.b.h:1\n3.c.h:9\nodd\n");
        assert_eq!(all[&b"1.a.h"[..]], ["Work", "$Label1"]);
        assert_eq!(all[&b"2.b.h"[..]], ["$Label1"]);
        assert!(all[&b"3.c.h"[..]].is_empty());
    }
}
