//! MULTIAPPEND, CATENATE, REPLACE, literal8 and APPENDLIMIT (RFC 3502, 3516, 4469, 7889, 8508):
//! transcripts of the RFCs' examples, and what must leave nothing behind.

use super::common::serve::{AUTH, Serving, configuration};
use super::common::{IMAP, Imap, PASSWORD};
use super::{ALICE, refused, server, texts};

/// Sends the lines one by one, each but the last of which announces a literal; gives the tagged
/// answer.
fn converse(imap: &mut Imap, tag: &str, lines: &[&str]) -> String {
    for (n, line) in lines.iter().enumerate() {
        imap.send(line.as_bytes());
        if n + 1 < lines.len() {
            let asked = imap.line().expect("a line").text;
            assert!(asked.starts_with('+'), "{line}: {asked}");
        }
    }
    imap.until(tag).1
}

fn count(imap: &mut Imap, mailbox: &str) -> String {
    texts(&imap.ok(&format!("STATUS {mailbox} (MESSAGES)")))[0].to_owned()
}

fn body(imap: &mut Imap, uid: u32, section: &str) -> String {
    let lines = imap.ok(&format!("UID FETCH {uid} BODY.PEEK[{section}]"));
    String::from_utf8(lines[0].literals[0].clone()).expect("UTF-8")
}

fn code<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let start = answer.find(&format!("[{name} ")).expect(answer);
    let inner = &answer[start + 1..start + answer[start..].find(']').expect(answer)];
    inner.split(' ').skip(1).collect()
}

const LUNCH: &str = "Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\n\
From: Fred Foobar <foobar@Blurdybloop.example.COM>\r\n\
Subject: afternoon meeting\r\n\
To: mooch@owatagu.example.net\r\n\
Message-Id: <B27397-0100000@Blurdybloop.example.COM>\r\n\
MIME-Version: 1.0\r\n\
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\
\r\n\
Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n";

#[test]
fn rfc3502_example() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE saved-messages");
    let answer = "Subject: Re: afternoon meeting\r\n\r\n3:30 is fine with me.\r\n";
    let tagged = converse(
        &mut a,
        "A003",
        &[
            &format!(
                "A003 APPEND saved-messages (\\Seen) {{{}}}\r\n",
                LUNCH.len()
            ),
            &format!(
                "{LUNCH} (\\Seen) \" 7-Feb-1994 22:43:04 -0800\" {{{}}}\r\n",
                answer.len()
            ),
            &format!("{answer}\r\n"),
        ],
    );
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    assert_eq!(code(&tagged, "APPENDUID")[1], "1:2");
    a.ok("SELECT saved-messages");
    let lines = a.ok("FETCH 2 (FLAGS INTERNALDATE RFC822.SIZE)");
    assert_eq!(
        lines[0].text,
        format!(
            "* 2 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE \" 7-Feb-1994 22:43:04 -0800\" \
             RFC822.SIZE {})",
            answer.len()
        )
    );
    assert_eq!(body(&mut a, 1, ""), LUNCH);
    assert_eq!(body(&mut a, 2, ""), answer);
    a.send(b"A004 APPEND bogusname (\\Flagged) {1023}\r\n");
    assert!(a.until("A004").1.starts_with("NO [TRYCREATE]"));
}

#[test]
fn of_many_messages_none_stays_where_one_is_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let limits = "[imap]\nmax_append_bytes = 2000\nmax_multiappend_bytes = 5000\n\
                  max_append_messages = 3\n";
    let server = Serving::start_with(home.path(), |base| {
        configuration(base, "data", AUTH).replace("[imap]\n", limits)
    });
    let mut a = Imap::connect(server.base + IMAP).expect("IMAP");
    a.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
    let before = count(&mut a, "INBOX");
    let big = "x".repeat(2000);
    for (command, says) in [
        // RFC 3502: a literal without a byte cancels.
        ("x APPEND INBOX {1+}\r\na {0+}\r\n\r\n".to_owned(), "NO"),
        ("x APPEND INBOX {0+}\r\n\r\n".to_owned(), "NO"),
        (
            "x APPEND INBOX {1+}\r\na (\\Bogus) {1+}\r\nb\r\n".to_owned(),
            "BAD",
        ),
        (
            "x APPEND INBOX {1+}\r\na {1+}\r\nb {1+}\r\nc {1+}\r\nd\r\n".to_owned(),
            "NO [LIMIT]",
        ),
        (
            format!("x APPEND INBOX {{1+}}\r\na {{2001+}}\r\n{big}x\r\n"),
            "NO [TOOBIG]",
        ),
        (
            format!("x APPEND INBOX {{2000+}}\r\n{big} {{2000+}}\r\n{big} {{2000+}}\r\n{big}\r\n"),
            "NO [TOOBIG]",
        ),
        // RFC 4469, 4.2
        (
            format!("x APPEND INBOX CATENATE (TEXT {{2000+}}\r\n{big} TEXT {{1+}}\r\na)\r\n"),
            "NO [TOOBIG]",
        ),
        (
            "x APPEND INBOX {1+}\r\na CATENATE (URL /INBOX/;UID=9)\r\n".to_owned(),
            "NO [BADURL",
        ),
        (
            "x APPEND INBOX {1+}\r\na {2+}\r\nb\0\r\n".to_owned(),
            "NO [CANNOT]",
        ),
        // RFC 3516, 4.4
        (
            "x APPEND INBOX {1+}\r\na ~{2+}\r\nb\0\r\n".to_owned(),
            "NO [UNKNOWN-CTE]",
        ),
        (
            "x APPEND INBOX {1+}\r\na CATENATE (TEXT {0+}\r\n)\r\n".to_owned(),
            "NO",
        ),
    ] {
        a.send(command.as_bytes());
        let tagged = a.until("x").1;
        assert!(tagged.starts_with(says), "{command:.60}: {tagged}");
        assert_eq!(count(&mut a, "INBOX"), before, "{command:.60}");
    }
    // A client that waits hears of it where it waits.
    a.send(b"y APPEND INBOX {1}\r\n");
    assert!(a.line().expect("a line").text.starts_with('+'));
    a.send(b"a CATENATE (URL /none/;UID=1 TEXT {5}\r\n");
    assert!(a.until("y").1.starts_with("NO [BADURL \"/none/;UID=1\"]"));
    assert_eq!(count(&mut a, "INBOX"), before);
    a.send(format!("z APPEND INBOX {{2000+}}\r\n{big} {{2000+}}\r\n{big}\r\n").as_bytes());
    assert!(a.until("z").1.starts_with("OK [APPENDUID"));
    // RFC 7889
    let lines = a.ok("LIST \"\" INBOX RETURN (STATUS (APPENDLIMIT))");
    assert_eq!(texts(&lines)[1], "* STATUS INBOX (APPENDLIMIT 2000)");
    let lines = a.ok("CAPABILITY");
    assert!(texts(&lines)[0].contains(" APPENDLIMIT=2000"));
    refused(&mut a, "APPEND INBOX {2001}", "TOOBIG");
}

#[test]
fn literal8_is_taken() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.send("x APPEND box (\\Seen) ~{18+}\r\nSubject: s\r\n\r\n\u{fc}\r\n\r\n".as_bytes());
    assert!(a.until("x").1.starts_with("OK"));
    a.ok("SELECT box");
    assert_eq!(body(&mut a, 1, "TEXT"), "\u{fc}\r\n");
}

/// A draft of two parts, as in RFC 4469, appendix A.
fn draft(imap: &mut Imap) -> (u32, String) {
    let text = "Message-ID: <419399E1.6000505@example.org>\r\n\
        From: Bob Ar <bar@example.org>\r\n\
        MIME-Version: 1.0\r\n\
        Subject: About our holiday trip\r\n\
        Content-Type: multipart/mixed; boundary=\"------------030308070208000400050907\"\r\n\
        \r\n\
        --------------030308070208000400050907\r\n\
        Content-Type: text/plain; charset=us-ascii; format=flowed\r\n\
        \r\n\
        Our travel agent has sent the updated schedule.\r\n\
        --------------030308070208000400050907\r\n\
        Content-Type: application/x-zip-compressed\r\n\
        Content-Transfer-Encoding: base64\r\n\
        \r\n\
        UEsDBA==\r\n\
        --------------030308070208000400050907--\r\n";
    imap.send(format!("d APPEND Drafts {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    let tagged = imap.until("d").1;
    let uid = code(&tagged, "APPENDUID")[1].parse().expect("a UID");
    (uid, text.to_owned())
}

#[test]
fn rfc4469_examples() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let (uid, text) = draft(&mut a);
    a.send(b"p APPEND Drafts {18+}\r\nX: y\r\n\r\nnew part\r\n\r\n");
    let tagged = a.until("p").1;
    let [validity, part] = code(&tagged, "APPENDUID")[..] else {
        panic!("{tagged}")
    };
    let url = |uid: &str, section: &str| {
        format!("URL \"/Drafts;UIDVALIDITY={validity}/;UID={uid}{section}\"")
    };
    let of = |section: &str| url(&uid.to_string(), section);
    let boundary = "\r\n--------------030308070208000400050907\r\n";
    let end = "\r\n--------------030308070208000400050907--\r\n";
    // Example 1: an attachment is replaced.
    let tagged = converse(
        &mut a,
        "A003",
        &[
            &format!(
                "A003 APPEND Drafts (\\Seen \\Draft $MDNSent) CATENATE ({} TEXT {{42}}\r\n",
                of("/;section=HEADER")
            ),
            &format!(
                "{boundary} {} {} TEXT {{42}}\r\n",
                of("/;section=1.MIME"),
                of("/;section=1")
            ),
            &format!("{boundary} {} TEXT {{44}}\r\n", url(part, "")),
            &format!("{end})\r\n"),
        ],
    );
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    let made: u32 = code(&tagged, "APPENDUID")[1].parse().expect("a UID");
    a.ok("SELECT Drafts");
    let head = text.find("\r\n\r\n").expect("a header") + 4;
    let expected = format!(
        "{}{boundary}Content-Type: text/plain; charset=us-ascii; format=flowed\r\n\r\n\
         Our travel agent has sent the updated schedule.{boundary}X: y\r\n\r\nnew part\r\n{end}",
        &text[..head]
    );
    assert_eq!(body(&mut a, made, ""), expected);
    let lines = a.ok(&format!("UID FETCH {made} FLAGS"));
    assert!(
        lines[0].text.contains("FLAGS (\\Seen \\Draft $MDNSent"),
        "{lines:?}"
    );
    // Example 2: text and header are replaced.
    let tagged = converse(
        &mut a,
        "A004",
        &[
            "A004 APPEND Drafts CATENATE (TEXT {14}\r\n",
            &format!(
                "Subject: x\r\n\r\n {} {} TEXT {{44}}\r\n",
                of("/;Section=2.MIME"),
                of("/;Section=2")
            ),
            &format!("{end})\r\n"),
        ],
    );
    let made: u32 = code(&tagged, "APPENDUID")[1].parse().expect("a UID");
    assert_eq!(
        body(&mut a, made, ""),
        format!(
            "Subject: x\r\n\r\nContent-Type: application/x-zip-compressed\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nUEsDBA=={end}"
        )
    );
    // Example 4: a part that is not there.
    let before = count(&mut a, "Drafts");
    let bad = format!("/Drafts;UIDVALIDITY={validity}/;UID={uid}/;section=1.5.9");
    a.send(format!("A005 APPEND Drafts CATENATE (TEXT {{3+}}\r\na\r\n URL \"{bad}\" TEXT {{3+}}\r\nb\r\n)\r\n").as_bytes());
    let tagged = a.until("A005").1;
    assert!(
        tagged.starts_with(&format!("NO [BADURL \"{bad}\"]")),
        "{tagged}"
    );
    assert_eq!(count(&mut a, "Drafts"), before);
    for bad in [
        format!("/Drafts;UIDVALIDITY=1/;UID={uid}"),
        "/Drafts/;UID=999".into(),
        "/none/;UID=1".into(),
        format!("imap://bob@posthorn.test/Drafts/;UID={uid}"),
        "not-a-url".into(),
    ] {
        let (_, tagged) = a.command(&format!("APPEND Drafts CATENATE (URL \"{bad}\")"));
        assert!(
            tagged.starts_with(&format!("NO [BADURL \"{bad}\"]")),
            "{bad}: {tagged}"
        );
    }
    // Relative to what is selected; some fields, and a piece.
    let (_, tagged) = a.command(&format!(
        "APPEND Drafts CATENATE (URL \"/;UID={uid}/;SECTION=HEADER.FIELDS%20(Subject)\" \
         URL /;UID={uid}/;SECTION=1/;PARTIAL=4.6)"
    ));
    let made: u32 = code(&tagged, "APPENDUID")[1].parse().expect("a UID");
    assert_eq!(
        body(&mut a, made, ""),
        "Subject: About our holiday trip\r\n\r\ntravel"
    );
}

#[test]
fn rfc8508_examples() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let (uid, text) = draft(&mut a);
    let new =
        "From: Fritz Schmidt <fritz.ze@example.org>\r\nSubject: happy new year !!\r\n\r\nx\r\n";
    // Only with a mailbox selected (3.5).
    a.send(format!("A002 REPLACE 1 Drafts {{{}+}}\r\n{new}\r\n", new.len()).as_bytes());
    assert!(a.until("A002").1.starts_with("BAD"));
    a.ok("SELECT Drafts");
    a.send(
        format!(
            "A003 REPLACE 1 Drafts (\\Seen \\Draft) {{{}}}\r\n",
            new.len()
        )
        .as_bytes(),
    );
    assert!(a.line().expect("a line").text.starts_with('+'));
    a.send(format!("{new}\r\n").as_bytes());
    let (lines, tagged) = a.until("A003");
    assert_eq!(tagged, "OK Replaced");
    let lines = texts(&lines);
    assert_eq!(code(lines[0], "APPENDUID")[1], "2");
    assert_eq!(lines[1..], ["* 1 EXPUNGE", "* 1 EXISTS", "* 1 RECENT"]);
    // By UID; one that is gone is refused, and nothing is added.
    a.send(
        format!(
            "A004 UID REPLACE {uid} Drafts {{{}+}}\r\n{new}\r\n",
            new.len()
        )
        .as_bytes(),
    );
    assert!(a.until("A004").1.starts_with("NO"));
    assert_eq!(count(&mut a, "Drafts"), "* STATUS Drafts (MESSAGES 1)");
    // 4.2: with CATENATE, to another mailbox.
    a.send(b"A011 UID REPLACE 2 Sent CATENATE (TEXT {71}\r\n");
    assert!(a.line().expect("a line").text.starts_with('+'));
    let top = "To: Mitzy <miss.mitzy@example.org>\r\nSubject: My view of the fireworks\r\n";
    assert_eq!(top.len(), 71);
    a.send(format!("{top} URL \"/Drafts/;UID=2\")\r\n").as_bytes());
    let (lines, tagged) = a.until("A011");
    assert_eq!(tagged, "OK Replaced");
    assert_eq!(texts(&lines)[1..], ["* 1 EXPUNGE"]);
    a.ok("SELECT Sent");
    assert_eq!(body(&mut a, 1, ""), format!("{top}{new}"));
    // Another session expunges it while the new one comes.
    a.ok("SELECT Drafts");
    let (uid, _) = draft(&mut a);
    a.ok("NOOP");
    let mut b = server.imap(ALICE);
    b.ok("SELECT Drafts");
    a.send(format!("A012 UID REPLACE {uid} Drafts {{{}}}\r\n", text.len()).as_bytes());
    assert!(a.line().expect("a line").text.starts_with('+'));
    b.ok(&format!("UID STORE {uid} +FLAGS (\\Deleted)"));
    b.ok("EXPUNGE");
    a.send(format!("{text}\r\n").as_bytes());
    let (lines, tagged) = a.until("A012");
    assert!(tagged.starts_with("NO [EXPUNGEISSUED]"), "{tagged}");
    assert_eq!(texts(&lines), ["* 1 EXPUNGE"]);
    // RFC 8508, 4.7; and nothing is replaced where nothing may be changed.
    a.send(b"A013 REPLACE 1 Drafts {1+}\r\na {1+}\r\nb\r\n");
    assert!(a.until("A013").1.starts_with("BAD"));
    a.ok("EXAMINE Sent");
    a.send(b"A014 REPLACE 1 Drafts {1+}\r\na\r\n");
    assert!(a.until("A014").1.starts_with("NO [READ-ONLY]"));
}

/// Larger than what stays in memory, and than what goes into the log's frames.
#[test]
fn large_messages_go_through_the_spool_in_all_forms() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    let mut noise = 1u64;
    let mut large = |len: usize| {
        let lines = std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            format!("{noise:016x}{:016x}\r\n", noise.rotate_left(17))
        });
        let text: String = lines.take(len / 34).collect();
        format!("Subject: s\r\n\r\n{text}")
    };
    let messages = [
        large(9_000_000),
        large(300),
        large(600_000),
        large(5_000_000),
    ];
    let mut command = b"x APPEND box".to_vec();
    for message in &messages {
        command.extend(format!(" {{{}+}}\r\n{message}", message.len()).bytes());
    }
    command.extend(b"\r\n");
    a.send(&command);
    let tagged = a.until("x").1;
    assert_eq!(code(&tagged, "APPENDUID")[1], "1:4", "{tagged}");
    a.ok("SELECT box");
    for (uid, message) in (1..).zip(&messages) {
        assert!(body(&mut a, uid, "") == *message, "{uid}");
    }
    let (_, tagged) =
        a.command("APPEND box CATENATE (URL /;UID=2 URL /;UID=1/;SECTION=TEXT URL /;UID=4)");
    assert!(tagged.starts_with("OK"), "{tagged}");
    let whole = [messages[1].as_str(), &messages[0][14..], &messages[3]].concat();
    assert!(body(&mut a, 5, "") == whole);
}
