//! Damaged mail from outside: each part that BODYSTRUCTURE names is there, and as long as it says;
//! a client's parser reads every answer.

use std::io::{BufRead as _, Read as _};

use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder as _;
use imap_codec::imap_types::body::{BodyStructure, SpecificFields};
use imap_codec::imap_types::fetch::MessageDataItem;
use imap_codec::imap_types::response::{Data, Response};

use super::common::Imap;
use super::{ALICE, server};

const WHOLE: &str = "From: J\u{fc} <j@x.test>\r\nSubject: =?utf-8?B?w7w=?= \u{fc}\r\n\
MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"b\"\r\n\r\npreamble\r\n--b\r\n\
\r\nplain text\r\nof two lines\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\
Content-Type: multipart/alternative; boundary=bb\r\n\r\n--bb\r\nContent-Type: text/html\r\n\
Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>gr=C3=BC=C3=9Fe=\r\n\r\n--bb\r\n\
Content-Type: image/png; name*0*=utf-8''%C3%BC; name*1=\"b.png\"\r\n\
Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--bb--\r\n\r\n--b\r\n\
Content-Type: application/pdf;\r\n\tname=\"\u{fc}.pdf\"\r\nContent-Disposition: attachment; \
filename=\"\u{fc}.pdf\"\r\n\r\n%PDF\r\n--b--\r\nepilogue\r\n";

/// The lines of it, some of them lost, repeated, cut or in another place.
fn damaged(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let all = WHOLE.as_bytes().split_inclusive(|b| *b == b'\n');
    let mut lines: Vec<Vec<u8>> = all.map(<[u8]>::to_vec).collect();
    for _ in 0..random(6) {
        let (at, to) = (random(lines.len()), random(lines.len()));
        match random(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(to, lines[at].clone()),
            2 => lines.swap(at, to),
            3 => lines.insert(at, b"\r\n".to_vec()),
            4 => lines[at].retain(|b| *b != b'\r' && *b != b'\n'),
            _ => {
                let cut = random(lines[at].len().max(1));
                lines[at].insert(cut, [b'\xfc', b'"', b'(', b';', b'\\'][random(5)]);
            }
        }
    }
    let mut raw = lines.concat();
    if random(4) == 0 {
        raw.truncate(random(raw.len()).max(1));
    }
    raw
}

/// The bytes of one answer with its literals, and whether it is the tagged one.
fn answer(imap: &mut Imap, tag: &str) -> (Vec<u8>, bool) {
    let mut raw = Vec::new();
    loop {
        let start = raw.len();
        assert!(imap.stream.read_until(b'\n', &mut raw).expect("a line") > 0);
        let line = String::from_utf8_lossy(&raw[start..]).into_owned();
        let size = line
            .trim_end()
            .strip_suffix('}')
            .and_then(|l| l.rsplit_once('{'));
        let Some(size) = size.and_then(|(_, n)| n.parse::<usize>().ok()) else {
            let tagged = raw.starts_with(tag.as_bytes());
            return (raw, tagged);
        };
        let from = raw.len();
        raw.resize(from + size, 0);
        imap.stream.read_exact(&mut raw[from..]).expect("a literal");
    }
}

/// The data items of one message, as a client reads them.
fn fetch(imap: &mut Imap, command: &str) -> Vec<MessageDataItem<'static>> {
    imap.send(format!("f {command}\r\n").as_bytes());
    let mut items = Vec::new();
    loop {
        let (raw, tagged) = answer(imap, "f ");
        let text = String::from_utf8_lossy(&raw).into_owned();
        if tagged {
            assert!(text.starts_with("f OK"), "{command}: {text}");
            return items;
        }
        match ResponseCodec::default().decode(&raw) {
            Ok((rest, Response::Data(Data::Fetch { items: found, .. }))) => {
                assert!(rest.is_empty(), "{text}");
                items.extend(found.into_iter().map(|item| {
                    use imap_codec::imap_types::ToStatic as _;
                    item.to_static()
                }));
            }
            other => panic!("{command}: {other:?}: {text}"),
        }
    }
}

fn text(imap: &mut Imap, uid: usize, section: &str) -> Vec<u8> {
    let items = fetch(imap, &format!("UID FETCH {uid} BODY.PEEK[{section}]"));
    let text = items.into_iter().find_map(|item| match item {
        MessageDataItem::BodyExt { data, .. } => data.into_option().map(|d| d.into_owned()),
        _ => None,
    });
    text.unwrap_or_else(|| panic!("{uid}: there is no {section}"))
}

/// Every part of `body`, which is a message where `message` is true.
fn check(
    imap: &mut Imap,
    uid: usize,
    body: &BodyStructure<'_>,
    part: &str,
    message: bool,
) -> usize {
    let below = |n: usize| match part {
        "" => n.to_string(),
        part => format!("{part}.{n}"),
    };
    match body {
        BodyStructure::Multi { bodies, .. } => {
            let all = bodies.as_ref().iter().enumerate();
            all.map(|(n, body)| check(imap, uid, body, &below(n + 1), false))
                .sum()
        }
        BodyStructure::Single { body, .. } => {
            let part = if message { below(1) } else { part.to_owned() };
            let content = text(imap, uid, &part);
            assert_eq!(content.len(), body.basic.size as usize, "{uid}: {part}");
            let mime = text(imap, uid, &format!("{part}.MIME"));
            let whole = text(imap, uid, "");
            // They lie behind each other in the message.
            let both = [mime, content.clone()].concat();
            assert!(
                both.is_empty() || whole.windows(both.len()).any(|w| w == both),
                "{uid}: {part}"
            );
            match &body.specific {
                SpecificFields::Message { body_structure, .. } => {
                    let header = text(imap, uid, &format!("{part}.HEADER"));
                    let inner = text(imap, uid, &format!("{part}.TEXT"));
                    assert_eq!([header, inner].concat(), content, "{uid}: {part}");
                    1 + check(imap, uid, body_structure, &part, true)
                }
                _ => 1,
            }
        }
    }
}

#[test]
fn every_part_is_there_and_as_long_as_told() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    let messages: Vec<Vec<u8>> = std::iter::once(WHOLE.as_bytes().to_vec())
        .chain((1..80).map(damaged))
        .collect();
    let mut command = b"x APPEND box".to_vec();
    for message in &messages {
        command.extend(format!(" {{{}+}}\r\n", message.len()).bytes());
        command.extend(message);
    }
    a.send(&[&command[..], b"\r\n"].concat());
    let tagged = a.until("x").1;
    assert!(tagged.starts_with("OK"), "{tagged}");
    a.ok("SELECT box");
    let mut parts = 0;
    for enabled in [false, true] {
        if enabled {
            a.ok("ENABLE UTF8=ACCEPT");
        }
        for (uid, message) in (1..).zip(&messages) {
            let items = fetch(
                &mut a,
                &format!("UID FETCH {uid} (ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE)"),
            );
            let structure = items.iter().find_map(|item| match item {
                MessageDataItem::BodyStructure(structure) => Some(structure.clone()),
                _ => None,
            });
            let size = items.iter().find_map(|item| match item {
                MessageDataItem::Rfc822Size(size) => Some(*size as usize),
                _ => None,
            });
            assert_eq!(size, Some(message.len()));
            let here = check(&mut a, uid, &structure.expect("a structure"), "", true);
            assert!(here > 0);
            parts += here;
            assert_eq!(text(&mut a, uid, ""), *message);
            let header = text(&mut a, uid, "HEADER");
            assert_eq!([header, text(&mut a, uid, "TEXT")].concat(), *message);
        }
    }
    // The damage left something to look at.
    assert!(parts > 2 * messages.len(), "{parts}");
    // A part that is not there is NIL, and no error.
    let lines = a.ok("UID FETCH 1 (BODY.PEEK[9] BODY.PEEK[1.MIME] BODY.PEEK[1.HEADER])");
    assert!(lines[0].text.contains("BODY[9] NIL") && lines[0].text.contains("BODY[1.HEADER] NIL"));
    // BINARY.SIZE is the size of BINARY, where the encoding is known.
    for part in ["1", "2", "2.1", "2.2", "3"] {
        let lines = a.ok(&format!(
            "UID FETCH 1 (BINARY.SIZE[{part}] BINARY.PEEK[{part}])"
        ));
        let size = lines[0].literals[0].len();
        assert!(
            lines[0]
                .text
                .contains(&format!("BINARY.SIZE[{part}] {size} ")),
            "{lines:?}"
        );
    }
}
