//! The wake-up that travels to the phone: compact JSON, version first.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Sender and subject are in it only where the device's owner asked for them; the transport
//! encrypts for the device. Text is cut on character borders so that the whole fits.

use serde::Serialize;

use crate::store::ContentLevel;
use crate::types::{Uid, UidValidity, UnixMillis};

/// Firefox for Android is reached over FCM, where base64 leaves 2744 bytes of body.
pub(crate) const MAX_PLAIN: usize = 2641;
/// Each text on its own, in bytes.
const MAX_TEXT: usize = 512;

/// What a wake-up says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice<'a> {
    Mail(Mail<'a>),
    Test,
    Verify { code: &'a str },
}

/// New messages in one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail<'a> {
    pub(crate) account: &'a str,
    pub(crate) mailbox: &'a str,
    pub(crate) count: u32,
    /// The newest message, where there is one to show.
    pub(crate) uid: Option<Uid>,
    pub(crate) uid_validity: UidValidity,
    pub(crate) from: &'a str,
    pub(crate) subject: &'a str,
}

/// The keys in wire order; readers ignore those that they don't know.
#[derive(Serialize)]
struct Wire<'a> {
    v: u8,
    t: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uv: Option<u32>,
    ts: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    from: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subj: &'a str,
    id: &'a str,
}

/// Makes the JSON, at most [`MAX_PLAIN`] bytes. `id` names the wake-up, `ts` is when its cause
/// happened.
pub(crate) fn encode(notice: &Notice<'_>, show: ContentLevel, id: &str, ts: UnixMillis) -> Vec<u8> {
    let mut wire = Wire {
        v: 1,
        t: "test",
        code: None,
        a: None,
        m: None,
        n: None,
        u: None,
        uv: None,
        ts: ts.secs(),
        from: "",
        subj: "",
        id,
    };
    match notice {
        Notice::Test => {}
        Notice::Verify { code } => {
            wire.t = "verify";
            wire.code = Some(code);
        }
        Notice::Mail(mail) => {
            wire.t = "mail";
            wire.a = Some(mail.account);
            wire.m = Some(cut(mail.mailbox, MAX_TEXT));
            wire.n = Some(mail.count);
            wire.u = mail.uid.map(|uid| uid.0);
            wire.uv = mail.uid.map(|_| mail.uid_validity.0);
            if show != ContentLevel::WakeUpOnly {
                wire.from = cut(mail.from, MAX_TEXT);
            }
            if show == ContentLevel::SenderSubject {
                wire.subj = cut(mail.subject, MAX_TEXT);
            }
        }
    }
    // A control character takes six bytes of JSON, so lengths are only known afterwards.
    loop {
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        if json.len() <= MAX_PLAIN {
            return json;
        }
        let longest = wire.from.len().max(wire.subj.len());
        if longest == 0 {
            wire.m = wire.m.map(|m| cut(m, m.len() / 2));
        } else if wire.subj.len() == longest {
            wire.subj = cut(wire.subj, longest / 2);
        } else {
            wire.from = cut(wire.from, longest / 2);
        }
    }
}

/// At most `most` bytes of `text`, whole characters.
fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail<'a>(from: &'a str, subject: &'a str) -> Notice<'a> {
        Notice::Mail(Mail {
            account: "alice@example.org",
            mailbox: "INBOX",
            count: 2,
            uid: Some(Uid(4711)),
            uid_validity: UidValidity(1_700_000_000),
            from,
            subject,
        })
    }

    fn text(notice: &Notice<'_>, show: ContentLevel) -> String {
        let json = encode(notice, show, "w_1", UnixMillis::from_secs(1_795_600_000));
        String::from_utf8(json).expect("JSON is UTF-8")
    }

    #[test]
    fn says_what_the_owner_asked_for() {
        let notice = mail("Bob", "Lunch?");
        assert_eq!(
            text(&notice, ContentLevel::SenderSubject),
            r#"{"v":1,"t":"mail","a":"alice@example.org","m":"INBOX","n":2,"u":4711,"uv":1700000000,"ts":1795600000,"from":"Bob","subj":"Lunch?","id":"w_1"}"#
        );
        assert_eq!(
            text(&notice, ContentLevel::Sender),
            r#"{"v":1,"t":"mail","a":"alice@example.org","m":"INBOX","n":2,"u":4711,"uv":1700000000,"ts":1795600000,"from":"Bob","id":"w_1"}"#
        );
        let little = text(&notice, ContentLevel::WakeUpOnly);
        assert!(
            !little.contains("Bob") && !little.contains("Lunch"),
            "{little}"
        );
    }

    #[test]
    fn tests_and_codes() {
        assert_eq!(
            text(&Notice::Test, ContentLevel::SenderSubject),
            r#"{"v":1,"t":"test","ts":1795600000,"id":"w_1"}"#
        );
        assert_eq!(
            text(&Notice::Verify { code: "abc" }, ContentLevel::SenderSubject),
            r#"{"v":1,"t":"verify","code":"abc","ts":1795600000,"id":"w_1"}"#
        );
    }

    #[test]
    fn always_fits_and_stays_valid() {
        for filler in ["a", "é", "\u{1}", "😀", "\"", "\\"] {
            let long = filler.repeat(3000);
            let json = text(&mail(&long, &long), ContentLevel::SenderSubject);
            assert!(json.len() <= MAX_PLAIN, "{filler:?}: {}", json.len());
            let value: serde_json::Value = serde_json::from_str(&json).expect("valid");
            let subject = value["subj"].as_str().expect("text");
            assert!(!subject.is_empty() && long.starts_with(subject));
        }
    }
}
