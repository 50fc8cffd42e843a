//! Message IDs in Message-ID, In-Reply-To and References (RFC 5322, 3.6.4), in the form in which
//! they are compared (RFC 5256, 3, REFERENCES).
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use super::content::quoted;
use super::envelope::Envelope;
use super::header::{fields_within_limit, unfold};

/// A longer one is none.
const MAX_ID: usize = 998;

/// The message IDs of a field's value, in order, without angle brackets; quoting is undone, so
/// that `<"a"@b>` is `<a@b>`. Phrases between them are left out (RFC 5322, 4.5.4).
pub fn message_ids(value: &[u8]) -> Vec<Vec<u8>> {
    let value = unfold(value);
    let mut ids = Vec::new();
    let mut at = 0;
    while let Some(open) = find(&value, at, b'<') {
        match message_id(&value, open + 1) {
            Some((id, end)) => {
                ids.push(id);
                at = end;
            }
            None => at = open + 1,
        }
    }
    ids
}

fn find(value: &[u8], from: usize, byte: u8) -> Option<usize> {
    let rest = value.get(from..)?;
    rest.iter().position(|b| *b == byte).map(|n| from + n)
}

/// What stands between `<` and `>`, and where it ends. Blanks in it are left out.
fn message_id(value: &[u8], from: usize) -> Option<(Vec<u8>, usize)> {
    let mut id = Vec::new();
    let mut at = from;
    loop {
        if id.len() > MAX_ID {
            return None;
        }
        match *value.get(at)? {
            b'>' if id.is_empty() => return None,
            b'>' => return Some((id, at + 1)),
            b'<' => return None,
            b'"' => {
                let (text, end) = quoted(value, at);
                id.extend_from_slice(&text);
                at = end;
                continue;
            }
            b if b.is_ascii_whitespace() => {}
            b => id.push(b),
        }
        at += 1;
    }
}

/// Where a message says that it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Its own Message-ID.
    pub id: Option<Vec<u8>>,
    /// Its ancestors, the oldest first: References, else the first ID of In-Reply-To.
    pub ancestors: Vec<Vec<u8>>,
}

impl References {
    /// From a message or its header.
    pub fn read(header: &[u8]) -> Self {
        let (mut id, mut references, mut in_reply_to) = (None, None, None);
        for field in fields_within_limit(header) {
            if field.is("Message-ID") {
                id = id.or(Some(field.value));
            } else if field.is("References") {
                references = references.or(Some(field.value));
            } else if field.is("In-Reply-To") {
                in_reply_to = in_reply_to.or(Some(field.value));
            }
        }
        Self::of(id, references, in_reply_to)
    }

    /// What ENVELOPE tells, where the message has no References.
    pub fn told(envelope: &Envelope<'_>) -> Self {
        let (id, in_reply_to) = (&envelope.message_id, &envelope.in_reply_to);
        Self::of(id.as_deref(), None, in_reply_to.as_deref())
    }

    /// From the values of the fields.
    pub(super) fn of(
        id: Option<&[u8]>,
        references: Option<&[u8]>,
        in_reply_to: Option<&[u8]>,
    ) -> Self {
        let mut ancestors = references.map(message_ids).unwrap_or_default();
        if ancestors.is_empty() {
            // RFC 5256, 3, step 1.
            let replied = in_reply_to.map(message_ids).unwrap_or_default();
            ancestors.extend(replied.into_iter().next());
        }
        Self {
            id: id.and_then(|id| message_ids(id).into_iter().next()),
            ancestors,
        }
    }

    /// The ID of the message that its conversation began with.
    pub fn root(&self) -> Option<&[u8]> {
        self.ancestors
            .first()
            .or(self.id.as_ref())
            .map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Traits, summarize};

    fn ids(value: &str) -> Vec<String> {
        let text = |id| String::from_utf8(id).unwrap();
        message_ids(value.as_bytes())
            .into_iter()
            .map(text)
            .collect()
    }

    #[test]
    fn ids_of_a_field() {
        assert_eq!(ids("<a@b> <c@d>\r\n <e@f>"), ["a@b", "c@d", "e@f"]);
        assert_eq!(ids("Your message of today <a@b> (thanks)"), ["a@b"]);
        assert_eq!(ids("a@b"), [""; 0]);
        assert_eq!(ids("<> <<a@b> <c"), ["a@b"]);
        // RFC 5256, 3: the quoted and the bare form are the same.
        let same = "01KF8JCEOCBS0045PS@xxx.yyy.com";
        assert_eq!(ids(&format!("<{same}>")), [same]);
        assert_eq!(ids("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>"), [same]);
    }

    #[test]
    fn references_come_before_in_reply_to() {
        let read = |text: &str| References::read(text.as_bytes());
        let both = read(
            "Message-ID: <m@x>\r\nIn-Reply-To: <p@x> <q@x>\r\nReferences: <r@x> <p@x>\r\n\r\n",
        );
        assert_eq!(both.root(), Some(&b"r@x"[..]));
        assert_eq!(both.ancestors.len(), 2);
        let reply =
            read("Message-ID: <m@x>\r\nIn-Reply-To: <p@x> <q@x>\r\nReferences: none\r\n\r\n");
        assert_eq!(reply.ancestors, [b"p@x"]);
        assert_eq!(read("Message-ID: <m@x>\r\n\r\n").root(), Some(&b"m@x"[..]));
        assert_eq!(read("Subject: s\r\n\r\n").root(), None);
        // Of the usual message without References, no more than its ENVELOPE is needed.
        let usual = "Message-ID: <m@x>\r\nIn-Reply-To: <p@x>\r\n\r\n";
        assert!(summarize(usual.as_bytes()).traits.has(Traits::LINKS_TOLD));
    }

    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("<a@b>"),
            Just("<\"a b\"@c>"),
            Just("<\"a\\\"b\"@c>"),
            Just("<a\r\n b@c>"),
            Just("text"),
            Just("(a <b@c>)"),
            Just("<>"),
            Just("<"),
            Just("\r\n\t"),
            Just("\0"),
            Just("<\u{e4}@x>"),
            Just("=?utf-8?q?<q@r>?="),
        ];
        proptest::collection::vec(part, 0..4).prop_map(|parts| parts.join(" "))
    }

    proptest! {
        /// Where a summary says that ENVELOPE tells it all, it does.
        #[test]
        fn what_is_told_is_what_is_read(
            fields in proptest::collection::vec(
                (proptest::sample::select(vec!["Message-ID", "In-Reply-To", "References", "X"]), value()),
                0..5,
            ),
        ) {
            let lines = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let header = lines.collect::<String>() + "\r\n";
            let summary = summarize(header.as_bytes());
            let envelope = Envelope::read(&summary.envelope).unwrap();
            let referring = fields.iter().any(|(name, _)| *name == "References");
            let told = summary.traits.has(Traits::LINKS_TOLD);
            prop_assert!(!(told && referring));
            if told {
                prop_assert_eq!(References::told(&envelope), References::read(header.as_bytes()));
            }
        }
    }
}
