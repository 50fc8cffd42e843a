//! A reader of the wire forms, as strict as RFC 9051's grammar, and properties of any bytes.

use proptest::prelude::*;

use crate::mail::*;

#[derive(Debug)]
enum Value {
    Nil,
    Number(usize),
    Text(Vec<u8>),
    List(Vec<Value>),
}

use Value::{List, Nil, Number, Text};

/// One value that is all of the input. `1*address` and the parts of a multipart have no blanks
/// between them, all others have one.
fn read(wire: &[u8]) -> Value {
    let mut stack: Vec<Vec<Value>> = vec![Vec::new()];
    let mut at = 0;
    while at < wire.len() {
        let value = match wire[at] {
            b'(' => {
                stack.push(Vec::new());
                at += 1;
                continue;
            }
            b')' => {
                at += 1;
                let items = stack.pop().unwrap();
                assert!(!items.is_empty(), "empty list");
                List(items)
            }
            b' ' => {
                // A literal before it may end in a parenthesis, so the list is asked, not the bytes.
                assert!(!matches!(wire[at + 1], b' ' | b')') && !stack.last().unwrap().is_empty());
                at += 1;
                continue;
            }
            b'"' => {
                let mut text = Vec::new();
                at += 1;
                while wire[at] != b'"' {
                    if wire[at] == b'\\' {
                        at += 1;
                        assert!(matches!(wire[at], b'"' | b'\\'));
                    }
                    assert!(!matches!(wire[at], 0 | b'\r' | b'\n' | 0x80..));
                    text.push(wire[at]);
                    at += 1;
                }
                at += 1;
                Text(text)
            }
            b'{' => {
                let end = wire[at..].iter().position(|b| *b == b'}').unwrap() + at;
                let len: usize = std::str::from_utf8(&wire[at + 1..end])
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(&wire[end + 1..end + 3], b"\r\n");
                at = end + 3 + len;
                let text = &wire[end + 3..at];
                assert!(!text.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')));
                Text(text.to_vec())
            }
            b'N' => {
                assert_eq!(&wire[at..at + 3], b"NIL");
                at += 3;
                Nil
            }
            b'0'..=b'9' => {
                let len = wire[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                at += len;
                Number(
                    std::str::from_utf8(&wire[at - len..at])
                        .unwrap()
                        .parse()
                        .unwrap(),
                )
            }
            other => panic!("unexpected {other}"),
        };
        let list = stack.last_mut().unwrap();
        list.push(value);
    }
    assert_eq!(stack.len(), 1, "unbalanced");
    let mut top = stack.pop().unwrap();
    assert_eq!(top.len(), 1);
    top.pop().unwrap()
}

fn list(value: &Value) -> &[Value] {
    match value {
        List(items) => items,
        other => panic!("no list: {other:?}"),
    }
}

fn is_string(value: &Value) -> bool {
    matches!(value, Text(_))
}

fn is_nstring(value: &Value) -> bool {
    matches!(value, Text(_) | Nil)
}

fn check_envelope(value: &Value) {
    let items = list(value);
    assert_eq!(items.len(), 10);
    assert!([0, 1, 8, 9].iter().all(|i| is_nstring(&items[*i])));
    for addresses in &items[2..8] {
        let mut in_group = false;
        if matches!(addresses, Nil) {
            continue;
        }
        for address in list(addresses) {
            let [name, adl, mailbox, host] = list(address) else {
                panic!("address")
            };
            assert!(is_nstring(name) && is_nstring(adl) && is_nstring(mailbox));
            match (mailbox, host) {
                (Nil, Nil) => {
                    assert!(in_group);
                    in_group = false;
                }
                (_, Nil) => {
                    assert!(!in_group);
                    in_group = true;
                }
                _ => assert!(is_string(mailbox) && is_string(host)),
            }
        }
    }
}

fn check_params(value: &Value) {
    if !matches!(value, Nil) {
        let items = list(value);
        assert!(items.len().is_multiple_of(2) && items.iter().all(is_string));
    }
}

fn check_tail(tail: &[Value]) {
    let [dsp, lang, loc] = tail else {
        panic!("extension {tail:?}")
    };
    if !matches!(dsp, Nil) {
        let [kind, params] = list(dsp) else {
            panic!("dsp")
        };
        assert!(is_string(kind));
        check_params(params);
    }
    assert!(is_nstring(lang) || list(lang).iter().all(is_string));
    assert!(is_nstring(loc));
}

/// Also that octets are what BODY[part] gives. `global`: message/global has parts (RFC 9051, 9).
fn check_body(
    value: &Value,
    part: &mut Vec<u32>,
    top: bool,
    raw: &[u8],
    structure: &Structure,
    global: bool,
) {
    let items = list(value);
    let parts = items.iter().take_while(|i| matches!(i, List(_))).count();
    if parts > 0 {
        for (i, child) in items[..parts].iter().enumerate() {
            part.push(u32::try_from(i + 1).unwrap());
            check_body(child, part, false, raw, structure, global);
            part.pop();
        }
        assert!(is_string(&items[parts]));
        if items.len() > parts + 1 {
            check_params(&items[parts + 1]);
            check_tail(&items[parts + 2..]);
        }
        return;
    }
    let [
        Text(main),
        Text(sub),
        params,
        id,
        description,
        Text(_),
        Number(octets),
        rest @ ..,
    ] = items
    else {
        panic!("body {items:?}")
    };
    check_params(params);
    assert!(is_nstring(id) && is_nstring(description));
    if top {
        part.push(1);
    }
    let bytes = structure.section(raw, part, &SectionRef::Whole).unwrap();
    assert_eq!(bytes.len(), *octets, "{part:?}");
    let rest = match (main.as_slice(), sub.as_slice()) {
        (b"message", sub) if sub == b"rfc822" || sub == b"global" && global => {
            let [envelope, body, Number(_), rest @ ..] = rest else {
                panic!("message {rest:?}")
            };
            check_envelope(envelope);
            let header = structure.section(raw, part, &SectionRef::Header).unwrap();
            let text = structure.section(raw, part, &SectionRef::Text).unwrap();
            assert_eq!(header.len() + text.len(), *octets);
            check_body(body, part, true, raw, structure, global);
            rest
        }
        (b"text", _) => {
            assert!(matches!(rest[0], Number(_)));
            &rest[1..]
        }
        (main, _) => {
            assert!(main != b"multipart");
            rest
        }
    };
    if top {
        part.pop();
    }
    if !rest.is_empty() {
        assert!(is_nstring(&rest[0]));
        check_tail(&rest[1..]);
    }
}

pub(super) fn check_message(raw: &[u8]) {
    let structure = Structure::parse(raw);
    structure.check(raw);
    for node in structure.nodes() {
        if node.kind == Kind::Message {
            let inner = &structure.nodes()[node.children[0]];
            let body = &raw[node.body.clone()];
            assert_eq!(header_len(body), inner.header.len());
            assert_eq!(inner.header.end, inner.body.start);
        }
    }
    check_envelope(&read(&envelope_wire(raw)));
    check_body(
        &read(&body_structure_wire(raw)),
        &mut Vec::new(),
        true,
        raw,
        &structure,
        true,
    );
    check_body(
        &read(&body_wire(raw)),
        &mut Vec::new(),
        true,
        raw,
        &structure,
        true,
    );
    check_envelope(&read(&envelope_wire_ascii(raw)));
    for extended in [true, false] {
        let wire = body_structure_wire_ascii(raw, extended);
        check_body(&read(&wire), &mut Vec::new(), true, raw, &structure, false);
    }
    // The header and the rest, the picked fields and the others: nothing is lost.
    let header = header_section(raw, &SectionRef::Header).unwrap();
    let text = header_section(raw, &SectionRef::Text).unwrap();
    assert_eq!([&*header, &*text].concat(), raw);
    let names = vec!["subject".to_owned(), "to".to_owned()];
    let some = header_section(raw, &SectionRef::HeaderFields(names.clone())).unwrap();
    let others = header_section(raw, &SectionRef::HeaderFieldsNot(names)).unwrap();
    let blank = header.len() - fields(raw).map(|f| f.range.len()).sum::<usize>();
    assert_eq!(some.len() + others.len(), header.len() + blank);
}

/// Pieces that mean something to the walker, so that chance finds the corners.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "--a\r\n",
            "--a--\r\n",
            "--a",
            "--b\n",
            "--b--\n",
            "--a \t\r\n",
            "--ab\r\n",
            "\r\n",
            "\n",
            "\r",
            " ",
            "\t",
            "--",
            "x",
            "text\r\n",
            "\0",
            "\u{e4}",
            "(",
            ")",
            "\"",
            "<",
            ">",
            "@",
            ",",
            ";",
            ":",
            "=",
            "\\",
            "=?utf-8?q?",
            "?=",
            "a*0*=",
            "[",
            "]",
            "Content-Type: multipart/mixed; boundary=a\r\n",
            "Content-Type: multipart/digest; boundary=\"b\"\n",
            "Content-Type: message/rfc822\r\n",
            "Content-Type: message/global\r\n\r\n",
            "Content-Type: text/html; charset=\"utf-7\"\r\n",
            "Content-Type: ",
            "Content-Transfer-Encoding: base64\r\n",
            "Content-Transfer-Encoding: quoted-printable\r\n",
            "Content-Disposition: attachment; filename*0*=",
            "Content-Language: a, b\r\n",
            "Content-ID: <x>\r\n",
            "From: ",
            "To: A: b@c;",
            "Subject: ",
            "Date: Fri, 21 Nov 1997 09:55:06 -0600\r\n",
            "Reply-To:",
        ])
        .prop_map(|s: &str| s.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes(raw in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_walk(&raw);
        check_message(&raw);
    }

    #[test]
    fn any_mixture(raw in soup()) {
        fuzz_walk(&raw);
        check_message(&raw);
    }
}
