//! Examples of the RFCs and malformed mail, down to the bytes.

use crate::mail::*;

fn s(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// RFC 3501, section 8 and RFC 9051, 8.
#[test]
fn envelope_of_the_rfc() {
    let raw = b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n\
        From: Terry Gray <gray@cac.washington.edu>\r\n\
        Subject: IMAP4rev1 WG mtg summary and minutes\r\n\
        To: imap@cac.washington.edu\r\n\
        cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
        Message-Id: <B27397-0100000@cac.washington.edu>\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\nabc\r\n";
    let summary = summarize(raw);
    assert_eq!(
        s(&summary.envelope),
        "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" \
        ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
        ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
        ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
        ((NIL NIL \"imap\" \"cac.washington.edu\")) \
        ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) \
        NIL NIL \"<B27397-0100000@cac.washington.edu>\")"
    );
    assert_eq!(
        s(&summary.body_structure),
        "(\"text\" \"plain\" (\"charset\" \"US-ASCII\") NIL NIL \"7bit\" 5 1 NIL NIL NIL NIL)"
    );
    assert_eq!(summary.from, "Terry Gray");
    assert_eq!(summary.subject, "IMAP4rev1 WG mtg summary and minutes");
    assert_eq!(summary.sent, Some(837_595_405_000));
}

fn structure_of(raw: &[u8]) -> String {
    s(&body_structure_wire(raw))
}

fn get(raw: &[u8], part: &[u32], text: SectionRef) -> Option<String> {
    Structure::parse(raw)
        .section(raw, part, &text)
        .map(|b| s(&b))
}

fn whole(raw: &[u8], part: &[u32]) -> Option<String> {
    get(raw, part, SectionRef::Whole)
}

/// The numbering of the example in RFC 9051, 6.4.5.
const NESTED: &[u8] = b"Subject: outer\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n\
preamble\r\n\
--o\r\nContent-Type: text/plain\r\n\r\none\r\n\
--o\r\nContent-Type: application/octet-stream\r\n\r\ntwo\r\n\
--o\r\nContent-Type: message/rfc822\r\nContent-Description: three\r\n\r\n\
Subject: third\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n\
--i\r\n\r\nthree.one\r\n\
--i\r\nContent-Type: application/octet-stream\r\n\r\nthree.two\r\n--i--\r\n\
--o\r\nContent-Type: multipart/mixed; boundary=\"m m\"\r\n\r\n\
--m m\r\nContent-Type: image/gif\r\nContent-ID: <4.1>\r\n\r\nGIF\r\n\
--m m\r\nContent-Type: message/rfc822\r\n\r\n\
Subject: fourth\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n\
--a\r\n\r\nfour.two.two.one\r\n\
--a\r\nContent-Type: text/richtext\r\n\r\nrich\r\n--a--\r\n\
--m m--\r\n\
--o--\r\nepilogue\r\n";

#[test]
fn part_numbers_of_the_rfc() {
    let fields =
        |names: &[&str]| SectionRef::HeaderFields(names.iter().map(|n| (*n).to_owned()).collect());
    let cases: &[(&[u32], SectionRef, Option<&str>)] = &[
        (&[1], SectionRef::Whole, Some("one")),
        (
            &[1],
            SectionRef::Mime,
            Some("Content-Type: text/plain\r\n\r\n"),
        ),
        (&[1], SectionRef::Header, None),
        (&[1], SectionRef::Text, None),
        (&[1, 1], SectionRef::Whole, None),
        (&[2], SectionRef::Whole, Some("two")),
        (
            &[3],
            SectionRef::Header,
            Some("Subject: third\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"),
        ),
        (&[3], fields(&["sUbJect"]), Some("Subject: third\r\n\r\n")),
        (
            &[3],
            SectionRef::Mime,
            Some("Content-Type: message/rfc822\r\nContent-Description: three\r\n\r\n"),
        ),
        (
            &[3],
            SectionRef::Text,
            Some(
                "--i\r\n\r\nthree.one\r\n--i\r\nContent-Type: application/octet-stream\r\n\r\n\
                three.two\r\n--i--",
            ),
        ),
        (&[3, 1], SectionRef::Whole, Some("three.one")),
        (&[3, 1], SectionRef::Mime, Some("\r\n")),
        (&[3, 2], SectionRef::Whole, Some("three.two")),
        (&[3, 3], SectionRef::Whole, None),
        (&[4, 1], SectionRef::Whole, Some("GIF")),
        (
            &[4, 1],
            SectionRef::Mime,
            Some("Content-Type: image/gif\r\nContent-ID: <4.1>\r\n\r\n"),
        ),
        (&[4], SectionRef::Header, None),
        (
            &[4, 2],
            fields(&["SUBJECT"]),
            Some("Subject: fourth\r\n\r\n"),
        ),
        (&[4, 2, 1], SectionRef::Whole, Some("four.two.two.one")),
        (&[4, 2, 2], SectionRef::Whole, Some("rich")),
        (&[0], SectionRef::Whole, None),
        (&[5], SectionRef::Whole, None),
        (&[], fields(&["x-none"]), Some("\r\n")),
        (
            &[],
            SectionRef::HeaderFieldsNot(vec!["CONTENT-TYPE".into()]),
            Some("Subject: outer\r\n\r\n"),
        ),
        (&[], SectionRef::Mime, None),
    ];
    for (part, text, expected) in cases {
        let got = get(NESTED, part, text.clone());
        assert_eq!(got.as_deref(), *expected, "{part:?} {text:?}");
    }
    assert_eq!(whole(NESTED, &[]).as_deref(), Some(s(NESTED).as_str()));
}

#[test]
fn structure_of_the_nested_example() {
    let octets = |part: &[u32]| whole(NESTED, part).unwrap().len();
    let text =
        |n| format!("(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" {n} 1)");
    let expected = format!(
        "({one}(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 3)\
        (\"message\" \"rfc822\" NIL NIL \"three\" \"7bit\" {o3} \
        (NIL \"third\" NIL NIL NIL NIL NIL NIL NIL NIL) \
        ({three}(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 9) \"mixed\") 11)\
        ((\"image\" \"gif\" NIL \"<4.1>\" NIL \"7bit\" 3)\
        (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" {o42} \
        (NIL \"fourth\" NIL NIL NIL NIL NIL NIL NIL NIL) \
        ({four}(\"text\" \"richtext\" NIL NIL NIL \"7bit\" 4 1) \"alternative\") 11) \
        \"mixed\") \"mixed\")",
        one = text(3),
        three = text(9),
        four = text(16),
        o3 = octets(&[3]),
        o42 = octets(&[4, 2]),
    );
    assert_eq!(s(&body_wire(NESTED)), expected);
}

#[test]
fn a_single_part_is_part_one() {
    let raw = b"Subject: x\r\nContent-Type: text/html\r\n\r\n<p>\r\n";
    assert_eq!(whole(raw, &[1]).as_deref(), Some("<p>\r\n"));
    let mime = get(raw, &[1], SectionRef::Mime);
    assert_eq!(
        mime.as_deref(),
        Some("Subject: x\r\nContent-Type: text/html\r\n\r\n")
    );
    assert_eq!(whole(raw, &[2]), None);
    assert_eq!(whole(raw, &[1, 1]), None);
    let inner = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody";
    assert_eq!(
        whole(inner, &[1]).as_deref(),
        Some("Subject: in\r\n\r\nbody")
    );
    assert_eq!(
        get(inner, &[1], SectionRef::Header).as_deref(),
        Some("Subject: in\r\n\r\n")
    );
    assert_eq!(get(inner, &[1], SectionRef::Text).as_deref(), Some("body"));
    assert_eq!(whole(inner, &[1, 1]).as_deref(), Some("body"));
}

#[test]
fn headers_without_a_blank_line() {
    let raw = b"Subject: x\r\n folded\r\nTo: y";
    let pick = |n: &str| header_section(raw, &SectionRef::HeaderFields(vec![n.into()])).unwrap();
    assert_eq!(s(&pick("subject")), "Subject: x\r\n folded\r\n");
    assert_eq!(s(&pick("TO")), "To: y");
    assert_eq!(&*header_section(raw, &SectionRef::Header).unwrap(), raw);
    assert_eq!(&*header_section(raw, &SectionRef::Text).unwrap(), b"");
    assert_eq!(
        &*header_section(b"\n\nx", &SectionRef::Text).unwrap(),
        b"\nx"
    );
}

#[test]
fn extension_data() {
    let raw = b"Content-Type: application/pdf; name=\r\n \"x.pdf\"\r\n\
        Content-Transfer-Encoding: BASE64 (yes)\r\nContent-MD5: Q2hlY2s=\r\n\
        Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=\"b c.pdf\"\r\n\
        Content-Language: de, en-GB\r\nContent-Location: http://x/\r\n y\r\n\r\nQUJD";
    assert_eq!(
        structure_of(raw),
        "(\"application\" \"pdf\" (\"name\" \"x.pdf\") NIL NIL \"base64\" 4 \"Q2hlY2s=\" \
        (\"attachment\" (\"filename*\" \"utf-8''a%20b%20c.pdf\")) (\"de\" \"en-gb\") \
        \"http://x/ y\")"
    );
}

const PLAIN: &str = "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\"";

/// Mail as it should not be.
#[test]
fn malformed_structures() {
    let empty = format!("{PLAIN} 0 0)");
    let cases: &[(&str, &str, String)] = &[
        ("nothing", "", empty.clone()),
        ("only a blank line", "\r\n", empty.clone()),
        ("no header", "\r\nx", format!("{PLAIN} 1 1)")),
        ("bare LF", "A: b\n\nx\ny\n", format!("{PLAIN} 4 2)")),
        (
            "multipart without boundary is text",
            "Content-Type: multipart/mixed\r\n\r\n--x\r\n",
            format!("{PLAIN} 5 1)"),
        ),
        (
            "multipart without parts has an empty one",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\nhello\r\n",
            format!("({empty} \"mixed\")"),
        ),
        (
            "digest without parts",
            "Content-Type: multipart/digest; boundary=x\r\n\r\n",
            format!("({empty} \"digest\")"),
        ),
        (
            "closed at once",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--\r\n--x\r\n\r\nlate",
            format!("({empty} \"mixed\")"),
        ),
        (
            "no closing boundary, blanks after the delimiter, empty part",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x \t\r\n--x\r\n\r\nab\r\n",
            format!("({empty}{PLAIN} 4 1) \"mixed\")"),
        ),
        (
            "the outer boundary ends the inner multipart",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\
            Content-Type: multipart/alternative; boundary=xy\r\n\r\n--xy\r\n\r\na\r\n\
            --x\r\n\r\nb\r\n--x--",
            format!("(({PLAIN} 1 1) \"alternative\"){PLAIN} 1 1) \"mixed\")"),
        ),
        (
            "a longer line is no delimiter",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--xy\r\n--x--\r\n",
            format!("({PLAIN} 4 1) \"mixed\")"),
        ),
        (
            "bare LF multipart",
            "Content-Type: multipart/mixed; boundary=x\n\n--x\n\na\n--x--\n",
            format!("({PLAIN} 1 1) \"mixed\")"),
        ),
        (
            "a part whose header has no blank line",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: image/png\r\n--x--",
            "((\"image\" \"png\" NIL NIL NIL \"7bit\" 0) \"mixed\")".to_owned(),
        ),
        (
            "type that is none",
            "Content-Type: what is this\r\n\r\n",
            empty.clone(),
        ),
        (
            "the first of two",
            "Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n",
            "(\"a\" \"b\" NIL NIL NIL \"7bit\" 0)".to_owned(),
        ),
        (
            "a message in an encoding is not looked into",
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==",
            "(\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 4)".to_owned(),
        ),
        (
            "digest: parts are messages",
            "Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: a\r\n\r\nb\r\n--x--",
            format!(
                "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 15 \
                (NIL \"a\" NIL NIL NIL NIL NIL NIL NIL NIL) {PLAIN} 1 1) 3) \"digest\")"
            ),
        ),
        (
            "unquoted name with blanks, comment after a value",
            "Content-Type: a/b (c(o)) ; name=my file.txt ; x=y (z)\r\n\r\n",
            "(\"a\" \"b\" (\"name\" \"my file.txt\" \"x\" \"y\") NIL NIL \"7bit\" 0)".to_owned(),
        ),
        (
            "comments without a blank before them",
            "Content-Type: text/plain; charset=us-ascii(Plain text); x=y; name=a(1).txt\r\n\r\n",
            format!(
                "{} 0 0)",
                PLAIN.replace(
                    "(\"charset\" \"us-ascii\")",
                    "(\"charset\" \"us-ascii\" \"x\" \"y\" \"name\" \"a(1).txt\")"
                )
            ),
        ),
        (
            "a comment behind the boundary",
            "Content-Type: multipart/mixed; boundary=x(y)\r\n\r\n--x\r\n\r\na\r\n--x--\r\n",
            format!("({PLAIN} 1 1) \"mixed\")"),
        ),
        (
            "a boundary line with more on it is text",
            "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x y\r\n--x--\r\n",
            format!("({PLAIN} 5 1) \"mixed\")"),
        ),
        (
            "parameters without value, sign or end",
            "Content-Type: a/b; ; x; y=; z=\"open\r\n\r\n",
            "(\"a\" \"b\" (\"y\" \"\" \"z\" \"open\") NIL NIL \"7bit\" 0)".to_owned(),
        ),
        (
            "quotes, NUL and 8-bit",
            "Content-Type: a/b; name=\"q\\\"\\\\\0\u{e4}\"\r\nContent-Description: a\"b\r\n\r\n",
            "(\"a\" \"b\" (\"name\" {5}\r\nq\"\\\u{e4}) NIL \"a\\\"b\" \"7bit\" 0)".to_owned(),
        ),
    ];
    for (name, raw, expected) in cases {
        assert_eq!(s(&body_wire(raw.as_bytes())), *expected, "{name}");
    }
}

#[test]
fn envelopes() {
    let empty = "NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL".to_owned();
    let from = |list: &str| format!("NIL NIL {list} {list} {list} NIL NIL NIL NIL NIL");
    let cases: &[(&str, String)] = &[
        ("", empty.clone()),
        ("From:\r\nTo: \r\nCc: ,;\r\n", empty.clone()),
        ("Subject:\r\n", empty.replacen("NIL NIL", "NIL \"\"", 1)),
        ("Subject: a\r\n\tb\r\n c\r\n", empty.replacen("NIL NIL", "NIL \"a\tb c\"", 1)),
        (
            "Subject: =?utf-8?q?=C3=A4?=\r\n",
            empty.replacen("NIL NIL", "NIL \"=?utf-8?q?=C3=A4?=\"", 1),
        ),
        (
            "Subject: \u{e4}\"\r\n",
            empty.replacen("NIL NIL", "NIL {3}\r\n\u{e4}\"", 1),
        ),
        ("From: a@b\r\n", from("((NIL NIL \"a\" \"b\"))")),
        ("From: a\r\n", from("((NIL NIL \"a\" \"\"))")),
        ("From: <>\r\n", from("((NIL NIL \"\" \"\"))")),
        ("from : \"J. \\\"X\\\" D\" < a @ b . c >\r\n", from("((\"J. \\\"X\\\" D\" NIL \"a\" \"b.c\"))")),
        ("From: J. Doe (x) Jr <a@b>\r\n", from("((\"J. Doe Jr\" NIL \"a\" \"b\"))")),
        ("From: a@b (Jane (the) Doe)\r\n", from("((\"Jane (the) Doe\" NIL \"a\" \"b\"))")),
        ("From: a@b.c <x@y>\r\n", from("((\"a@b.c\" NIL \"x\" \"y\"))")),
        ("From: X <@r1,@r2:a@b>\r\n", from("((\"X\" \"@r1,@r2\" \"a\" \"b\"))")),
        ("From: \"a b\"@c, <\"x@y\"@[1.2.3.4]>\r\n",
            from("((NIL NIL \"a b\" \"c\")(NIL NIL \"x@y\" \"[1.2.3.4]\"))")),
        ("From: X <a@b\r\n", from("((\"X\" NIL \"a\" \"b\"))")),
        ("From: X <a@b, c@d\r\n", from("((\"X\" NIL \"a\" \"b\")(NIL NIL \"c\" \"d\"))")),
        (
            "To: undisclosed-recipients:;\r\n",
            "NIL NIL NIL NIL NIL ((NIL NIL \"undisclosed-recipients\" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL"
                .to_owned(),
        ),
        (
            "To: A Group:a@b, C <c@d>;, e@f\r\nTo: g@h\r\nCc: Open: i@j\r\n",
            "NIL NIL NIL NIL NIL ((NIL NIL \"A Group\" NIL)(NIL NIL \"a\" \"b\")(\"C\" NIL \"c\" \"d\")\
            (NIL NIL NIL NIL)(NIL NIL \"e\" \"f\")(NIL NIL \"g\" \"h\")) \
            ((NIL NIL \"Open\" NIL)(NIL NIL \"i\" \"j\")(NIL NIL NIL NIL)) NIL NIL NIL"
                .to_owned(),
        ),
        (
            "From: a@b\r\nSender: c@d\r\nReply-To:\r\nIn-Reply-To: <1@x>\r\n <2@x>\r\n",
            "NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"c\" \"d\")) ((NIL NIL \"a\" \"b\")) \
            NIL NIL NIL \"<1@x> <2@x>\" NIL"
                .to_owned(),
        ),
    ];
    for (raw, expected) in cases {
        assert_eq!(
            s(&envelope_wire(raw.as_bytes())),
            format!("({expected})"),
            "{raw}"
        );
    }
}

/// A client's parser, not ours, reads what we write.
#[test]
fn a_client_understands() {
    use imap_codec::ResponseCodec;
    use imap_codec::decode::Decoder as _;
    for raw in [
        NESTED,
        b"",
        b"Subject: \xe4\"\\\0\r\nFrom: G: \"a\\\\b\" <c@d>;\r\n\r\n",
        b"Content-Type: a/b; name=\"\xe4\"\r\nContent-Language: de, en\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\nContent-Disposition: inline\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n--x",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==",
    ] {
        let mut line = b"* 1 FETCH (ENVELOPE ".to_vec();
        line.extend(envelope_wire(raw));
        line.extend(b" BODYSTRUCTURE ");
        line.extend(body_structure_wire(raw));
        line.extend(b" BODY ");
        line.extend(body_wire(raw));
        line.extend(b")\r\n");
        match ResponseCodec::default().decode(&line) {
            Ok((rest, _)) => assert!(rest.is_empty()),
            Err(error) => panic!("{error:?}: {}", s(&line)),
        }
    }
}
