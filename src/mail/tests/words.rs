//! Dates, encoded words, summaries and search.

use crate::mail::*;

#[test]
fn dates() {
    let cases: &[(&str, Option<(i64, i16)>)] = &[
        ("Fri, 21 Nov 1997 09:55:06 -0600", Some((880_127_706, -360))),
        ("21 Nov 97 09:55:06 GMT", Some((880_106_106, 0))),
        ("21 Nov 97 09:55 EST", Some((880_124_100, -300))),
        (
            "Thu,\r\n 13 (comment)\r\n Feb 1969\r\n 23:32\r\n -0330 (Newfoundland Time)",
            Some((-27_723_480, -210)),
        ),
        ("1 January 2026 00:00:00 +1400", Some((1_767_175_200, 840))),
        ("Tue Nov 25 03:27:00 2026", Some((1_795_577_220, 0))),
        ("25-Nov-2026 03:27:00 +0000", Some((1_795_577_220, 0))),
        ("Tue, 25 Nov 2026 03:27:00 Z", Some((1_795_577_220, 0))),
        // A leap second has no place in Unix time; it stays on its day.
        ("29 Feb 2024 23:59:60 +0000", Some((1_709_251_199, 0))),
        ("29 Feb 2023 23:59:59 +0000", None),
        ("31 Apr 2023 00:00 +0000", None),
        ("21 Nov 1997", Some((880_070_400, 0))),
        ("21 Nov 1997 25:00", None),
        ("yesterday", None),
        ("", None),
        ("99999999999999999999 Nov 1997 09:55", None),
        (": :: ::: - -- + ( ((", None),
    ];
    for (value, expected) in cases {
        let got = parse_date(value.as_bytes()).map(|d| (d.millis / 1000, d.zone_minutes));
        assert_eq!(got, *expected, "{value}");
    }
}

#[test]
fn the_sent_day_is_the_one_written() {
    let raw = b"Date: 1 Jan 1970 23:30:00 -0800\r\n\r\n";
    assert_eq!(sent_date(raw).unwrap().local_day(), 0);
    let raw = b"Date: 2 Jan 1970 00:30:00 +0800\r\n\r\n";
    assert_eq!(sent_date(raw).unwrap().local_day(), 1);
    let raw = b"Date: 31 Dec 2016 23:59:60 +0100\r\n\r\n";
    assert_eq!(sent_date(raw).unwrap().local_day(), 17_166);
}

/// RFC 2047, 8, and what is seen in the wild.
#[test]
fn encoded_words() {
    let cases: &[(&str, &str)] = &[
        ("=?ISO-8859-1?Q?a?=", "a"),
        ("=?ISO-8859-1?Q?a?= b", "a b"),
        ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        ("=?ISO-8859-1?Q?a?=  \r\n =?ISO-8859-2?Q?b?=", "ab"),
        ("=?ISO-8859-1?Q?a_b?=", "a b"),
        ("=?US-ASCII?Q?Keith_Moore?=", "Keith Moore"),
        ("x =?iso-8859-1*de?q?J=F6rg?= y", "x J\u{f6}rg y"),
        ("=?utf-8?B?w6Q?=", "\u{e4}"),
        // One character cut in two.
        ("=?utf-8?B?ww==?= =?UTF-8?B?pA==?=", "\u{e4}"),
        ("=?shift_jis?B?g26DjYFb?=", "\u{30cf}\u{30ed}\u{30fc}"),
        ("=?utf-8?q?=zz=?=", "=zz="),
        ("=?x-unknown?q?=E4?=", "\u{e4}"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("=??q?a?=", "=??q?a?="),
        ("=?", "=?"),
        ("caf\u{e9}", "caf\u{e9}"),
    ];
    for (value, expected) in cases {
        assert_eq!(decode_words(value.as_bytes()), *expected, "{value}");
    }
    assert_eq!(decode_words(b"caf\xe9"), "caf\u{e9}");
}

/// The foreign decoders must stand anything, also what is cut off.
#[test]
fn charsets_stand_anything() {
    for charset in [
        "utf-7",
        "utf-16",
        "utf-16le",
        "utf-16be",
        "shift_jis",
        "big5",
        "euc-jp",
        "euc-kr",
        "gb18030",
        "gbk",
        "iso-2022-jp",
        "iso-2022-kr",
        "hz-gb-2312",
        "koi8-r",
        "macintosh",
        "windows-1252",
        "ibm850",
        "x-user-defined",
        "tis-620",
        "iso-8859-8-i",
        "",
    ] {
        for a in 0..=255u8 {
            for b in [
                0, b'$', b'+', b'-', 0x1b, 0x40, 0x7e, 0x80, 0x81, 0xa1, 0xd8, 0xfe, 0xff,
            ] {
                for bytes in [
                    &[a][..],
                    &[a, b],
                    &[b, a],
                    &[0x1b, b'$', a, b],
                    &[b, a, b, a, b],
                ] {
                    let _ = crate::mail::words::decode_charset(charset.as_bytes(), bytes);
                }
            }
        }
    }
}

#[test]
fn summaries() {
    let cases: &[(&str, &str, &str, u8)] = &[
        ("From: A B <a@b>\r\nSubject: s\r\n", "A B", "s", 0),
        ("From: <a@b>\r\n", "a@b", "", 0),
        ("From: \"\" <a@b>\r\n", "a@b", "", 0),
        ("From: a\r\n", "a", "", 0),
        ("From: ,\r\n", ",", "", 0),
        ("From: =?utf-8?q?J=C3=B6rg?= <a@b>\r\n", "J\u{f6}rg", "", 0),
        ("Subject: =?utf-8?q?a=0D=0Ab=1B[2J?=\r\n", "", "a  b [2J", 0),
        (
            "List-Id: <x>\r\nImportance: High\r\n",
            "",
            "",
            Traits::LIST | Traits::IMPORTANT,
        ),
        ("Precedence: bulk\r\n", "", "", Traits::BULK),
        (
            "Precedence: list\r\nX-Priority: 1 (Highest)\r\n",
            "",
            "",
            Traits::LIST | Traits::IMPORTANT,
        ),
        ("X-Priority: 3\r\nAuto-Submitted: no\r\n", "", "", 0),
        (
            "Auto-Submitted: auto-replied; x=y\r\n",
            "",
            "",
            Traits::AUTOMATIC,
        ),
    ];
    for (raw, from, subject, traits) in cases {
        let summary = summarize(raw.as_bytes());
        assert_eq!(
            (summary.from.as_str(), summary.subject.as_str()),
            (*from, *subject),
            "{raw}"
        );
        let traits = traits | Traits::LINKS_TOLD;
        assert_eq!(summary.traits, Traits(traits), "{raw}");
    }
    let long = format!(
        "From: {}\u{e4} <a@b>\r\nSubject: {}\u{e4}",
        "x".repeat(127),
        "y".repeat(255)
    );
    let summary = summarize(long.as_bytes());
    assert_eq!((summary.from.len(), summary.subject.len()), (127, 255));
    assert_eq!(summarize(b"Date: 1 Jan 1960 00:00:00 GMT\r\n").sent, None);
}

#[test]
fn search() {
    let raw = b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nX-Empty:\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        w4RwZmVs\r\n\
        --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nein =C4p=\r\nfel am Tag\r\n\
        --b\r\nContent-Type: image/png\r\n\r\nhidden\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: Inner\r\n\r\nDeep text\r\n--b--\r\n";
    let body = |needle: &str| search_text(raw, SearchScope::Body, &fold(needle));
    let text = |needle: &str| search_text(raw, SearchScope::Text, &fold(needle));
    assert!(body("\u{c4}PFEL") && body("ein \u{e4}pfel AM") && body("DEEP") && body("inner"));
    assert!(!body("hidden") && !body("preamble") && !body("gr\u{fc}\u{df}e"));
    assert!(text("GR\u{dc}\u{df}E") && text("subject: gr") && !text("hidden") && text(""));
    assert!(header_contains(raw, "x-empty", "") && !header_contains(raw, "x-none", ""));
    assert!(
        header_contains(raw, "SUBJECT", "r\u{fc}\u{df}")
            && !header_contains(raw, "Subject", "inner")
    );
}

/// The needle lies across the edge of a window, in each encoding.
#[test]
fn search_across_windows() {
    use base64::Engine as _;
    for filler in ["0123456789\r\n", "0123456789", "\u{e4}\u{20ac}"] {
        for shift in 0..12 {
            let mut text = filler.repeat(64 * 1024 / filler.len() - 1);
            text.push_str(&"x".repeat(shift));
            text.push_str("N\u{c4}\u{20ac}DLE");
            text.push_str(filler);
            let encoded = base64::engine::general_purpose::STANDARD.encode(&text);
            for (encoding, body) in [
                ("8bit", &text),
                ("base64", &encoded),
                ("quoted-printable", &text),
            ] {
                let raw = format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}");
                let found = search_text(raw.as_bytes(), SearchScope::Body, "n\u{e4}\u{20ac}dle");
                assert!(found, "{encoding} {shift} {filler}");
                assert!(!search_text(
                    raw.as_bytes(),
                    SearchScope::Body,
                    "n\u{e4}\u{20ac}dlf"
                ));
            }
        }
    }
}

#[test]
fn search_in_html() {
    let raw = "Content-Type: text/html; charset=utf-8\r\n\r\n\
        <html><style>.secret { }</style><p class=\"big\">Gr&uuml;&szlig;e <b>von</b>\r\n \
        <a href=\"https://example.org/x\">ha<i>lb</i>fett</a><br>1 < 2 &amp; 3&#33; &nonsense; &\
        <div>a</div><div>b</div>";
    let found = |needle: &str| search_text(raw.as_bytes(), SearchScope::Body, &fold(needle));
    for needle in [
        "gr\u{fc}\u{df}e von halbfett",
        "1 < 2 & 3! &nonsense; & a b",
        "example.org/x",
    ] {
        assert!(found(needle), "{needle}");
    }
    assert!(!found("ab") && !found("von  halb"));
}
