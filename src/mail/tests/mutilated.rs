//! Real mail that was damaged on its way: what BODYSTRUCTURE says of it is what BODY[part] gives,
//! and a client's parser reads it.

use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder as _;
use proptest::prelude::*;

use crate::mail::*;

/// A part that is whole.
#[derive(Clone, Debug)]
enum Part {
    Leaf(usize),
    Multipart(&'static str, Vec<Part>),
    Message(Box<Part>),
}

const LEAVES: [&str; 8] = [
    "\r\nplain text\r\nof two lines",
    "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
     <p>gr=C3=BC=C3=9Fe=\r\n",
    "Content-Type: image/png; name*0*=utf-8''%C3%BC; name*1=\"b.png\"\r\n\
     Content-Transfer-Encoding: base64\r\nContent-ID: <a@b>\r\n\r\niVBORw0KGgo=\r\n",
    "Content-Type: application/pdf;\r\n\tname=\"=?utf-8?B?w7w=?= (1).pdf\"\r\n\
     Content-Disposition: attachment;\r\n filename=\"\u{fc}.pdf\"; size=12\r\n\r\n%PDF-1.4\r\n",
    "Content-Type: text/plain; charset=\"\r\nContent-Language: de, en\r\n\r\nunclosed",
    "Content-Description: \u{fc}\u{fc}\r\nContent-Location: x\r\nContent-MD5: y\r\n\r\n",
    "Content-Type: text\r\n\r\nno subtype\r\n",
    "Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n\r\nAction: delayed\r\n",
];

/// Two that begin alike, and one that needs quotes.
const BOUNDARIES: [&str; 4] = ["b", "bb", "=_ x:y", "----b"];

fn part() -> impl Strategy<Value = Part> {
    (0..LEAVES.len())
        .prop_map(Part::Leaf)
        .prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                (
                    prop::sample::select(BOUNDARIES.to_vec()),
                    prop::collection::vec(inner.clone(), 1..4)
                )
                    .prop_map(|(boundary, parts)| Part::Multipart(boundary, parts)),
                inner.prop_map(|inner| Part::Message(Box::new(inner))),
            ]
        })
}

fn write(part: &Part, out: &mut String) {
    match part {
        Part::Leaf(n) => out.push_str(LEAVES[*n]),
        Part::Multipart(boundary, parts) => {
            out.push_str(&format!(
                "Content-Type: multipart/mixed;\r\n boundary=\"{boundary}\"\r\n\r\npreamble"
            ));
            for part in parts {
                out.push_str(&format!("\r\n--{boundary}\r\n"));
                write(part, out);
            }
            out.push_str(&format!("\r\n--{boundary}--\r\nepilogue"));
        }
        Part::Message(inner) => {
            out.push_str(
                "Content-Type: message/rfc822\r\n\r\nFrom: \"J\u{fc}\" <j\u{fc}@b\u{fc}.example>, \
                 =?utf-8?Q?a=FC?= <a@b>\r\nTo: G: x@y, z;, undisclosed:;\r\n\
                 Subject: =?iso-8859-1?Q?a\r\n =FC?= \u{fc}\r\n",
            );
            write(inner, out);
        }
    }
}

/// What happens to mail on its way.
#[derive(Clone, Debug)]
enum Harm {
    Cut(usize),
    Drop(usize),
    Twice(usize),
    Swap(usize, usize),
    Join(usize),
    Blank(usize),
    Bytes(usize, Vec<u8>),
    OnlyLf,
    OnlyCr,
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = 0..10_000usize;
    prop_oneof![
        1 => at.clone().prop_map(Harm::Cut),
        4 => at.clone().prop_map(Harm::Drop),
        3 => at.clone().prop_map(Harm::Twice),
        3 => (at.clone(), at.clone()).prop_map(|(a, b)| Harm::Swap(a, b)),
        2 => at.clone().prop_map(Harm::Join),
        3 => at.clone().prop_map(Harm::Blank),
        3 => (at, prop::collection::vec(any::<u8>(), 1..5)).prop_map(|(at, b)| Harm::Bytes(at, b)),
        1 => Just(Harm::OnlyLf),
        1 => Just(Harm::OnlyCr),
    ]
}

fn harmed(mut raw: Vec<u8>, harm: &Harm) -> Vec<u8> {
    let lines = |raw: &[u8]| -> Vec<Vec<u8>> {
        let all = raw.split_inclusive(|b| *b == b'\n');
        all.map(<[u8]>::to_vec).collect()
    };
    let mut all = lines(&raw);
    let (count, len) = (all.len().max(1), raw.len().max(1));
    if all.is_empty() {
        return raw;
    }
    match harm {
        Harm::Cut(at) => {
            raw.truncate(at % len);
            return raw;
        }
        Harm::Drop(at) => drop(all.remove(at % count)),
        Harm::Twice(at) => all.insert(at % count, all[at % count].clone()),
        Harm::Swap(a, b) => all.swap(a % count, b % count),
        Harm::Join(at) => {
            let line = &mut all[at % count];
            while line.last().is_some_and(u8::is_ascii_whitespace) {
                line.pop();
            }
        }
        Harm::Blank(at) => all.insert(at % count, b"\r\n".to_vec()),
        Harm::Bytes(at, bytes) => {
            let at = at % len;
            raw.splice(at..at, bytes.iter().copied());
            return raw;
        }
        Harm::OnlyLf => raw.retain(|b| *b != b'\r'),
        Harm::OnlyCr => raw.retain(|b| *b != b'\n'),
    }
    match harm {
        Harm::OnlyLf | Harm::OnlyCr => raw,
        _ => all.concat(),
    }
}

/// All parts of a multipart, with what stands between them, are its body again.
fn check_whole(raw: &[u8]) {
    let structure = Structure::parse(raw);
    let nodes = structure.nodes();
    for node in nodes.iter().filter(|node| node.kind == Kind::Multipart) {
        let boundary = node.content_type.param("boundary").unwrap();
        let mut at = node.body.start;
        for child in &node.children {
            let child = &nodes[*child];
            // BODY[n.MIME] and BODY[n], without a gap.
            assert_eq!(child.header.end, child.body.start);
            let between = &raw[at..child.header.start];
            // An empty part stands for none.
            if !(child.header.is_empty() && child.body.is_empty()) {
                let delimiter = [b"--", boundary.trim_ascii_end()].concat();
                let found = between.windows(delimiter.len()).any(|w| w == delimiter);
                assert!(found, "no delimiter before a part");
            }
            assert!(child.header.start >= at);
            at = child.body.end;
        }
        assert!(at <= node.body.end);
    }
}

/// Parentheses that are open at a time, outside of strings: theirs has a limit.
fn depth(wire: &[u8]) -> usize {
    let (mut depth, mut most, mut at) = (0usize, 0, 0);
    while let Some(b) = wire.get(at) {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'"' => {
                at += 1;
                while wire.get(at).is_some_and(|b| *b != b'"') {
                    at += if wire[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' => {
                let end = at + wire[at..].iter().position(|b| *b == b'}').unwrap();
                let len = std::str::from_utf8(&wire[at + 1..end]).unwrap();
                at = end + 2 + len.parse::<usize>().unwrap();
            }
            _ => {}
        }
        most = most.max(depth);
        at += 1;
    }
    most
}

fn check_client(raw: &[u8]) {
    let forms = [
        (envelope_wire(raw), body_structure_wire(raw), body_wire(raw)),
        (
            envelope_wire_ascii(raw),
            body_structure_wire_ascii(raw, true),
            body_structure_wire_ascii(raw, false),
        ),
    ];
    for (envelope, structure, body) in forms {
        if depth(&structure) > 8 {
            continue;
        }
        let line = [
            b"* 1 FETCH (ENVELOPE ",
            &envelope[..],
            b" BODYSTRUCTURE ",
            &structure,
            b" BODY ",
            &body,
            b")\r\n",
        ]
        .concat();
        match ResponseCodec::default().decode(&line) {
            Ok((rest, _)) => assert!(rest.is_empty()),
            Err(error) => panic!("{error:?}: {}", String::from_utf8_lossy(&line)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_told_of_it_is_what_it_has(
        part in part(),
        harms in prop::collection::vec(harm(), 0..6),
    ) {
        let mut raw = "From: A <a@b>\r\nSubject: \u{fc}\r\nMIME-Version: 1.0\r\n".to_owned();
        write(&part, &mut raw);
        let raw = harms.iter().fold(raw.into_bytes(), harmed);
        super::grammar::check_message(&raw);
        check_whole(&raw);
        check_client(&raw);
    }
}

#[test]
fn overlapping_and_missing_boundaries() {
    for (raw, parts) in [
        // Never closed; closed and opened again; the outer one ends the inner one.
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
            2,
        ),
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b\r\n\r\ny",
            2,
        ),
        (
            "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--a\r\n\r\ny\r\n--b\r\n\r\nz\r\n--a--",
            4,
        ),
        // The same for both, and none at all.
        (
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
             Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b--\r\n",
            3,
        ),
        ("Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx", 1),
        (
            "Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n\r\nx",
            1,
        ),
    ] {
        assert_eq!(
            Structure::parse(raw.as_bytes()).nodes().len(),
            parts,
            "{raw}"
        );
        super::grammar::check_message(raw.as_bytes());
        check_whole(raw.as_bytes());
        check_client(raw.as_bytes());
    }
}
