//! IMAP URLs of messages and their parts (RFC 5092), with what RFC 4467 adds to them.
//!
//! Machine: no IO, no clock, no randomness.
//! May import: nothing of ours outside `mail`.

use super::section::SectionRef;

/// Longer ones are refused.
const MAX_URL: usize = 8 * 1024;
const MAX_PARTS: usize = 100;
const MAX_FIELDS: usize = 200;

/// A URL that names a message or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapUrl {
    /// None: a relative one, of this server and account.
    pub server: Option<Server>,
    /// None: the selected mailbox. UTF-8.
    pub mailbox: Option<String>,
    pub uid_validity: Option<u32>,
    pub uid: u32,
    pub part: Vec<u32>,
    pub text: SectionRef,
    /// Offset, and length where it does not go to the end.
    pub partial: Option<(u64, Option<u64>)>,
    pub auth: Option<UrlAuth>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub user: Option<String>,
    /// In lower case.
    pub host: String,
    pub port: Option<u16>,
}

/// Who may use a URL, until when, and the proof of it (RFC 4467, 2 and 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlAuth {
    /// Milliseconds since 1970.
    pub expires: Option<i64>,
    pub access: Access,
    /// Length of the URL up to and with the access: what the token is of.
    pub rump: usize,
    /// The mechanism in upper case, and the token.
    pub token: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `submit+user`: whoever submits mail for the user.
    Submit(String),
    /// `user+user`: the user.
    User(String),
    /// Whoever is logged in, and not anonymously.
    AuthUser,
    Anonymous,
}

/// None: not a URL of a message.
pub fn parse_imap_url(url: &str) -> Option<ImapUrl> {
    if url.len() > MAX_URL || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (server, path) = match strip_prefix(url, "imap://") {
        Some(rest) => {
            let (server, path) = rest.split_at(rest.find('/')?);
            (Some(parse_server(server)?), path)
        }
        None if url.contains("://") || url.starts_with("//") => return None,
        None => (None, url),
    };
    let (path, auth) = parse_auth(url, path)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut rest = path;
    let mut parts = Vec::new();
    // From the end: in front of the last `;UID=` is the mailbox.
    for name in ["PARTIAL", "SECTION", "UID"] {
        let found = find_last(rest, name);
        if let Some((before, value)) = found {
            parts.push((name, value));
            rest = before;
        }
    }
    let value = |wanted: &str| parts.iter().find(|(name, _)| *name == wanted).map(|p| p.1);
    let uid = number(value("UID")?)?;
    let partial = match value("PARTIAL") {
        Some(text) => Some(parse_partial(text)?),
        None => None,
    };
    let (part, text) = match value("SECTION") {
        Some(text) => parse_section(&percent_decode(text)?)?,
        None => (Vec::new(), SectionRef::Whole),
    };
    let (mailbox, uid_validity) = match find_parameter(rest, "UIDVALIDITY") {
        Some((mailbox, value)) => (mailbox, Some(number(value)?)),
        None => (rest, None),
    };
    if mailbox.contains(';') {
        return None;
    }
    let mailbox = percent_decode(mailbox)?;
    Some(ImapUrl {
        server,
        mailbox: Some(mailbox).filter(|name| !name.is_empty()),
        uid_validity,
        uid,
        part,
        text,
        partial,
        auth,
    })
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// `user;AUTH=x@host:port`; an empty user stands for none.
fn parse_server(text: &str) -> Option<Server> {
    let (user, place) = match text.rsplit_once('@') {
        Some((info, place)) => {
            let user = info.split(';').next().unwrap_or_default();
            (Some(percent_decode(user)?), place)
        }
        None => (None, text),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (place, None),
    };
    if host.is_empty() {
        return None;
    }
    Some(Server {
        user: user.filter(|user| !user.is_empty()),
        host: host.to_ascii_lowercase(),
        port,
    })
}

/// The path without `;EXPIRE=...;URLAUTH=...`, and those.
fn parse_auth<'a>(url: &str, path: &'a str) -> Option<(&'a str, Option<UrlAuth>)> {
    let Some((before, value)) = find_parameter(path, "URLAUTH") else {
        return match find_parameter(path, "EXPIRE") {
            Some(_) => None,
            None => Some((path, None)),
        };
    };
    let (path, expires) = match find_parameter(before, "EXPIRE") {
        Some((path, date)) => (path, Some(moment(date)?)),
        None => (before, None),
    };
    let (access, token) = match value.split_once(':') {
        Some((access, proof)) => {
            let (mechanism, token) = proof.split_once(':')?;
            let hex = |b: u8| b.is_ascii_hexdigit();
            if token.len() < 32 || !token.bytes().all(hex) {
                return None;
            }
            let token = (mechanism.to_ascii_uppercase(), token.to_ascii_lowercase());
            (access, Some(token))
        }
        None => (value, None),
    };
    let proof = value.len() - access.len();
    let lower = access.to_ascii_lowercase();
    let name = |prefix: &str| percent_decode(access.get(prefix.len()..)?).filter(|n| !n.is_empty());
    let access = match lower.as_str() {
        "authuser" => Access::AuthUser,
        "anonymous" => Access::Anonymous,
        _ if lower.starts_with("submit+") => Access::Submit(name("submit+")?),
        _ if lower.starts_with("user+") => Access::User(name("user+")?),
        _ => return None,
    };
    let auth = UrlAuth {
        expires,
        access,
        rump: url.len() - proof,
        token,
    };
    Some((path, Some(auth)))
}

/// date-time of RFC 3339 as milliseconds since 1970.
fn moment(text: &str) -> Option<i64> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    Some(moment.as_millisecond())
}

/// `before;name=value`, where it is the last parameter.
fn find_parameter<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (before, last) = text.rsplit_once(';')?;
    let (found, value) = last.split_once('=')?;
    found.eq_ignore_ascii_case(name).then_some((before, value))
}

/// `before/;name=value`; without the slash too, as some write it.
fn find_last<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (before, value) = find_parameter(text, name)?;
    Some((before.strip_suffix('/').unwrap_or(before), value))
}

/// nz-number
fn number(text: &str) -> Option<u32> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_partial(text: &str) -> Option<(u64, Option<u64>)> {
    let digits = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    match text.split_once('.') {
        Some((from, length)) => Some((digits(from)?, Some(digits(length).filter(|n| *n > 0)?))),
        None => Some((digits(text)?, None)),
    }
}

/// `1.2.MIME`, `HEADER.FIELDS (To Cc)`.
fn parse_section(text: &str) -> Option<(Vec<u32>, SectionRef)> {
    let mut part = Vec::new();
    let mut rest = text;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let (head, tail) = rest.split_once('.').unwrap_or((rest, ""));
        part.push(number(head)?);
        if part.len() > MAX_PARTS || (tail.is_empty() && head.len() < rest.len()) {
            return None;
        }
        rest = tail;
    }
    let (name, list) = match rest.split_once(' ') {
        Some((name, list)) => (name, Some(list)),
        None => (rest, None),
    };
    let section = match (name.to_ascii_uppercase().as_str(), list) {
        ("", None) if !part.is_empty() => SectionRef::Whole,
        ("HEADER", None) => SectionRef::Header,
        ("TEXT", None) => SectionRef::Text,
        ("MIME", None) if !part.is_empty() => SectionRef::Mime,
        ("HEADER.FIELDS", Some(list)) => SectionRef::HeaderFields(fields(list)?),
        ("HEADER.FIELDS.NOT", Some(list)) => SectionRef::HeaderFieldsNot(fields(list)?),
        _ => return None,
    };
    Some((part, section))
}

fn fields(list: &str) -> Option<Vec<String>> {
    let inner = list.strip_prefix('(')?.strip_suffix(')')?;
    let names: Vec<String> = inner
        .split(' ')
        .map(|name| name.trim_matches('"').to_owned())
        .collect();
    let valid =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    (names.len() <= MAX_FIELDS && names.iter().all(valid)).then_some(names)
}

/// None: not UTF-8, a control character, or an escape that is none.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(super::transfer::hex(&digits)?);
    }
    let text = String::from_utf8(out).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> ImapUrl {
        parse_imap_url(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn of_the_rfcs() {
        // RFC 4469, appendix A
        let part = url("/Drafts;UIDVALIDITY=385759045/;UID=20/;Section=2.MIME");
        assert_eq!(part.server, None);
        assert_eq!(part.mailbox.as_deref(), Some("Drafts"));
        assert_eq!((part.uid_validity, part.uid), (Some(385_759_045), 20));
        assert_eq!((part.part, part.text), (vec![2], SectionRef::Mime));
        assert_eq!(
            url("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER").text,
            SectionRef::Header
        );
        // RFC 8508, 4.2
        assert_eq!(url("/Drafts/;UID=3002").uid, 3002);
        // RFC 5092
        let part = url(
            "imap://minbari.example.org/gray-council;UIDVALIDITY=385759045/;UID=20/;PARTIAL=0.1024",
        );
        assert_eq!(part.partial, Some((0, Some(1024))));
        assert_eq!(
            part.server.map(|s| s.host),
            Some("minbari.example.org".into())
        );
        let user = url("imap://michael@example.org/%E6%97%A5%E6%9C%AC%E8%AA%9E/a%2Fb/;UID=1");
        assert_eq!(user.mailbox.as_deref(), Some("日本語/a/b"));
        assert_eq!(user.server.unwrap().user.as_deref(), Some("michael"));
        // RFC 4467
        let text = "imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred:internal:91354a473744909de610943775f92038";
        let auth = url(text).auth.unwrap();
        assert_eq!(auth.access, Access::Submit("fred".into()));
        assert_eq!(
            &text[auth.rump..],
            ":internal:91354a473744909de610943775f92038"
        );
        let text = "imap://a%40x.test@h/b/;uid=20;expire=2026-01-02T03:04:05Z;urlauth=anonymous";
        let auth = url(text).auth.unwrap();
        assert_eq!((auth.rump, auth.token), (text.len(), None));
        assert_eq!(auth.expires, Some(1_767_323_045_000));
        assert_eq!(url("/;UID=7/;section=1").mailbox, None);
        let fields = url("/a/;UID=7/;section=1.HEADER.FIELDS%20(To%20Cc)").text;
        assert_eq!(
            fields,
            SectionRef::HeaderFields(vec!["To".into(), "Cc".into()])
        );
    }

    #[test]
    fn what_names_no_message_is_none() {
        for text in [
            "",
            "/INBOX",
            "http://x/INBOX/;UID=1",
            "//x/INBOX/;UID=1",
            "/INBOX/;UID=0",
            "/INBOX/;UID=x",
            "/INBOX/;UID=1/;section=",
            "/INBOX/;UID=1/;section=0",
            "/INBOX/;UID=1/;section=1.",
            "/INBOX/;UID=1/;section=1.BOGUS",
            "/INBOX/;UID=1/;section=MIME",
            "/INBOX/;UID=1/;partial=1.0",
            "/INBOX;UIDVALIDITY=x/;UID=1",
            "/INBOX;x=1/;UID=1",
            "/%ff/;UID=1",
            "/%0d%0a/;UID=1",
            "/a b/;UID=1",
            "/a/;UID=1;urlauth=everybody",
            "/a/;UID=1;urlauth=user+",
            "/a/;UID=1;expire=2026-01-02T03:04:05Z",
            "/a/;UID=1;expire=now;urlauth=anonymous",
            "/a/;UID=1;urlauth=anonymous:internal:12",
        ] {
            assert_eq!(parse_imap_url(text), None, "{text}");
        }
    }
}
