//! SEARCH as RFC 9051, 6.4.4 has it: which parts, which form of an address, which letters.

use crate::mail::*;

fn text_of(raw: &str, needle: &str) -> [bool; 2] {
    [SearchScope::Body, SearchScope::Text]
        .map(|scope| search_text(raw.as_bytes(), scope, &fold(needle)))
}

/// RFC 9051, 6.4.4 names text and message parts.
#[test]
fn reports_are_text() {
    let bounce = "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
        --b\r\n\r\nNotification\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\n\
        Reporting-MTA: dns; example.org\r\n\r\nFinal-Recipient: rfc822; Lost@example.org\r\n\
        Status: 5.1.1\r\n\
        --b\r\nContent-Type: message/disposition-notification\r\n\r\n\
        Disposition: manual-action/MDN-sent-manually; displayed\r\n\
        --b\r\nContent-Type: message/partial; id=x; number=1; total=2\r\n\r\n\
        Subject: half\r\n\r\nfirst half\r\n\
        --b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        U3ViamVjdDogaGlkZGVuCgpkZWVwIGluc2lkZQo=\r\n\
        --b\r\nContent-Type: application/x-message\r\n\r\nnobody reads this\r\n--b--\r\n";
    for needle in [
        "lost@EXAMPLE.org",
        "5.1.1",
        "mdn-sent-manually",
        "subject: half",
        "first half",
        "deep inside",
        "Subject: hidden",
    ] {
        assert_eq!(text_of(bounce, needle), [true; 2], "{needle}");
    }
    assert_eq!(text_of(bounce, "nobody reads"), [false; 2]);
}

#[test]
fn addresses_are_found_as_they_are_and_as_they_are_written() {
    let raw = "From: <user-from (comment)@ (comment) domain.org>\r\n\
        To: < a @ b >, \"O'Brien \\\"Bob\\\"\" <\"b.ob\"@example . org>\r\n\
        Cc: Team: one@x.test, (second) two@x.test;\r\n\
        Bcc: =?utf-8?q?J=C3=B6rg?= =?utf-8?q?_M?= <@relay.test:joerg@x.test>,\r\n undisclosed\r\n\r\n";
    let found = |name: &str, needle: &str| address_contains(raw.as_bytes(), name, &fold(needle));
    for (name, needle) in [
        ("From", "user-from@domain.org"),
        ("From", "<USER-FROM@domain.org>"),
        // As it is written in the field.
        ("from", "(comment) domain.org"),
        ("To", "a@b"),
        ("To", "o'brien \"bob\" <b.ob@example.org>"),
        ("Cc", "team"),
        ("Cc", "one@x.test"),
        ("Cc", "<two@x.test>"),
        ("Bcc", "J\u{d6}RG M <joerg@x.test>"),
        ("Bcc", "relay.test"),
        ("Bcc", "undisclosed"),
        ("Bcc", ""),
    ] {
        assert!(found(name, needle), "{name} {needle}");
    }
    for (name, needle) in [
        ("From", "a@b"),
        ("To", "user-from"),
        ("Cc", "one@x.test <two"),
        ("Sender", ""),
    ] {
        assert!(!found(name, needle), "{name} {needle}");
    }
    // The field itself is another matter.
    assert!(!header_contains(raw.as_bytes(), "To", "a@b"));
}

#[test]
fn letters_that_look_the_same_are_the_same() {
    let cases = [
        ("Z\u{fc}rich", "zu\u{308}RICH"),
        ("Zu\u{308}rich", "Z\u{dc}RICH"),
        ("H\u{331}", "\u{1e96}"),
        (
            "\u{39f}\u{394}\u{39f}\u{3a3}",
            "\u{3bf}\u{3b4}\u{3bf}\u{3c2}",
        ),
        (
            "\u{3bf}\u{3b4}\u{3bf}\u{3c3}",
            "\u{3bf}\u{3b4}\u{3bf}\u{3c2}",
        ),
        ("100\u{a0}km", "100 KM"),
        ("\u{fb01}nal", "FINAL"),
        ("\u{ff21}\u{ff22}", "ab"),
        ("\u{212a}elvin", "kelvin"),
        ("\u{210c}", "h"),
        ("\u{130}", "i\u{307}"),
        ("d\u{131}l", "DIL"),
        ("\u{1c82}", "\u{41e}"),
        ("\u{df}", "\u{df}"),
        ("\u{1e69}", "S\u{307}\u{323}"),
        ("\u{1c6}", "\u{1c5}"),
    ];
    for (text, needle) in cases {
        let raw = format!("Subject: {text}\r\n\r\nfirst\r\n{text}\r\nlast");
        assert_eq!(text_of(&raw, needle), [true; 2], "{text} {needle}");
        let subject = header_contains(raw.as_bytes(), "Subject", &fold(needle));
        assert!(subject, "{text} {needle}");
    }
    for (text, needle) in [
        ("\u{e4}", "a"),
        ("a\u{308}", "a"),
        ("a", "\u{e4}"),
        ("\u{df}", "ss"),
    ] {
        let raw = format!("Subject: x\r\n\r\n{text}");
        let found = search_text(raw.as_bytes(), SearchScope::Body, &fold(needle));
        assert!(!found, "{text} {needle}");
    }
    assert_eq!(
        fold("line ONE\r\nZWEI\u{dc}\nDREI"),
        "line one\r\nzwei\u{fc}\ndrei"
    );
}

/// However many texts are looked for, a message is decoded once, and each answer is what it
/// would be alone.
#[test]
fn all_texts_are_looked_for_in_one_walk() {
    let line = "some words that say nothing in particular, =C3=A4 among them\r\n";
    let raw = format!(
        "Subject: over here\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain; charset=utf-8; name=attached\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n{}last =\r\nwords\r\n\
         --b\r\nContent-Type: text/html\r\n\r\n<p>seen <b>wor</b>ds</p>\r\n--b--\r\n",
        line.repeat(10_000)
    );
    let texts = [
        "over here",
        "attached",
        "\u{e4} among",
        "last words",
        "seen words",
        "nowhere",
        "",
        "them\r\nsome",
    ];
    let scopes = [SearchScope::Body, SearchScope::Text];
    let needles: Vec<Needle> = (0..40)
        .map(|n| Needle::new(scopes[n % 2], fold(texts[n / 2 % texts.len()])))
        .collect();
    let walk = |needles: &[Needle]| {
        let mut search = TextSearch::new(needles);
        let mut steps = 0;
        let open = |search: &TextSearch<'_>| {
            (0..needles.len()).any(|needle| search.answer(needle).is_none())
        };
        while open(&search) {
            search.step(raw.as_bytes());
            steps += 1;
        }
        let answers: Vec<_> = (0..needles.len()).map(|n| search.answer(n)).collect();
        (steps, answers)
    };
    let nowhere = [Needle::new(SearchScope::Body, "nowhere".into())];
    let (steps, answers) = walk(&needles);
    assert_eq!(steps, walk(&nowhere).0);
    for (n, answer) in answers.into_iter().enumerate() {
        let text = fold(texts[n / 2 % texts.len()]);
        let alone = search_text(raw.as_bytes(), scopes[n % 2], &text);
        assert_eq!(answer, Some(alone), "{text:?}");
        let expected = match text.as_str() {
            "nowhere" => false,
            "over here" | "attached" => n % 2 == 1,
            _ => true,
        };
        assert_eq!(alone, expected, "{text:?}");
    }
}
