//! Names of mailboxes as names of directories: Maildir++ (`.Folder.Sub`), Dovecot's `LAYOUT=fs`
//! (`Folder/Sub`), in modified UTF-7 (RFC 3501, 5.1.3) or UTF-8.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! A `.` or `/` that is part of a name is written as Dovecot's plugin `listescape` does: `\2e`.

use crate::types::utf7;

/// Text of one level, or of a whole name, in either encoding.
fn decode(text: &str) -> String {
    let plain = match text.is_ascii() {
        true => utf7::decode(text),
        false => None,
    };
    let plain = plain.unwrap_or_else(|| text.to_owned());
    plain
        .replace("\\2e", ".")
        .replace("\\2E", ".")
        // It can't be part of a name here.
        .replace("\\2f", "_")
        .replace("\\2F", "_")
        .replace("\\5c", "\\")
}

/// The mailbox of a name with `separator` between its levels; the empty name is INBOX.
pub fn mailbox(name: &str, separator: char) -> String {
    if name.is_empty() || name.eq_ignore_ascii_case("INBOX") {
        return "INBOX".into();
    }
    let levels = name.split(separator).filter(|level| !level.is_empty());
    let levels: Vec<String> = levels.map(|l| decode(l).replace('/', "_")).collect();
    levels.join("/")
}

/// The mailbox of another server's name in IMAP.
pub fn of_server(name: &str, separator: Option<char>) -> String {
    let plain = match name.is_ascii() {
        true => utf7::decode(name),
        false => None,
    };
    let plain = plain.unwrap_or_else(|| name.to_owned());
    if plain.eq_ignore_ascii_case("INBOX") {
        return "INBOX".into();
    }
    let Some(separator) = separator else {
        return plain.replace('/', "_");
    };
    let levels = plain.split(separator).filter(|level| !level.is_empty());
    let levels: Vec<String> = levels.map(|level| level.replace('/', "_")).collect();
    levels.join("/")
}

/// A mailbox as the name in Maildir++, without the dot in front. INBOX: the empty name.
pub fn plus_plus(mailbox: &str) -> String {
    if mailbox == "INBOX" {
        return String::new();
    }
    let levels = mailbox.split('/');
    let levels: Vec<String> = levels
        .map(|level| {
            let escaped = level.replace('\\', "\\5c").replace('.', "\\2e");
            utf7::encode(&escaped)
        })
        .collect();
    levels.join(".")
}

/// A mailbox as the path of a file below a directory, without anything that leads elsewhere.
pub fn path(mailbox: &str) -> Vec<String> {
    let levels = mailbox.split('/');
    levels
        .map(|level| {
            let level = level.replace('%', "%25").replace('\\', "%5c");
            match level.strip_prefix('.') {
                Some(rest) => format!("%2e{rest}"),
                None => level,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        for (name, separator, mailbox_is) in [
            ("", '.', "INBOX"),
            ("inbox", '.', "INBOX"),
            ("Entw&APw-rfe.Alt", '.', "Entwürfe/Alt"),
            ("Entwürfe.Alt", '.', "Entwürfe/Alt"),
            ("Sub/v1.0", '/', "Sub/v1.0"),
            ("a\\2eb.c", '.', "a.b/c"),
            ("R&-D", '.', "R&D"),
            ("bad&x", '.', "bad&x"),
            ("a/b", '.', "a_b"),
        ] {
            assert_eq!(mailbox(name, separator), mailbox_is, "{name}");
        }
    }

    #[test]
    fn names_of_servers() {
        for (name, separator, mailbox) in [
            ("inbox", Some('.'), "INBOX"),
            ("A.Entw&APw-rfe", Some('.'), "A/Entwürfe"),
            ("A/B", Some('.'), "A_B"),
            ("A/B\\2e", Some('/'), "A/B\\2e"),
            ("A.B/C", None, "A.B_C"),
            ("Entwürfe", Some('/'), "Entwürfe"),
        ] {
            assert_eq!(of_server(name, separator), mailbox, "{name}");
        }
    }

    #[test]
    fn every_mailbox_comes_back() {
        for name in [
            "INBOX",
            "INBOX/Sub",
            "a.b/c\\d",
            "日本語/R&D",
            ".x/..",
            "a b",
        ] {
            assert_eq!(mailbox(&plus_plus(name), '.'), name);
        }
        assert_eq!(plus_plus("Entwürfe/v1.0"), "Entw&APw-rfe.v1\\2e0");
    }

    #[test]
    fn paths_stay_where_they_are() {
        assert_eq!(path("../a\\b/.c"), ["%2e.", "a%5cb", "%2ec"]);
    }
}
