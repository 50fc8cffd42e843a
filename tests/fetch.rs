//! FETCH of texts, small and large: byte for byte, whole, in parts and decoded.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Imap, Server};

/// A multipart whose second part holds `data` in base64, and a third one in QP.
fn message(data: &[u8]) -> Vec<u8> {
    let mut mail = b"From: a@x.test\r\nSubject: parts\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\nfirst\r\n--b\r\n\
        Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        .to_vec();
    for line in STANDARD.encode(data).as_bytes().chunks(76) {
        mail.extend_from_slice(line);
        mail.extend_from_slice(b"\r\n");
    }
    mail.extend_from_slice(
        b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nd=C3=A9j=C3=A0 =\r\nvu\r\n\
        --b\r\nContent-Transfer-Encoding: x-own\r\n\r\n???\r\n--b--\r\n",
    );
    mail
}

fn append(imap: &mut Imap, mail: &[u8]) {
    let mut command = format!("a1 APPEND INBOX {{{}+}}\r\n", mail.len()).into_bytes();
    command.extend_from_slice(mail);
    command.extend_from_slice(b"\r\n");
    imap.send(&command);
    let (_, tagged) = imap.until("a1");
    assert!(tagged.starts_with("OK"), "{tagged}");
}

/// The literal that the newest message's item gives.
fn text(imap: &mut Imap, item: &str) -> Vec<u8> {
    let lines = imap.ok(&format!("FETCH * {item}"));
    let line = lines
        .iter()
        .find(|l| l.text.contains(" FETCH "))
        .expect(item);
    line.literals.first().cloned().expect(item)
}

#[test]
fn texts_are_the_same_bytes_whatever_their_size() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut imap = server.imap("alice@posthorn.test");
    let mut n = 7u32;
    for size in [10, 5_000, 300_000, 3_000_000, 9_000_000] {
        let data: Vec<u8> = (0..size)
            .map(|_| {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (n >> 24) as u8
            })
            .collect();
        let mail = message(&data);
        append(&mut imap, &mail);
        imap.ok("SELECT INBOX");
        let at = |needle: &[u8]| {
            mail.windows(needle.len())
                .position(|w| w == needle)
                .unwrap()
        };
        let body = at(b"\r\n\r\npreamble") + 4;
        let encoded = at(b"base64\r\n\r\n") + 10;
        let encoded = encoded..at(b"\r\n--b\r\nContent-Transfer-Encoding: quoted");

        assert!(text(&mut imap, "BODY.PEEK[]") == mail, "{size}");
        assert!(text(&mut imap, "RFC822") == mail, "{size}");
        assert!(text(&mut imap, "BODY.PEEK[TEXT]") == mail[body..], "{size}");
        assert!(
            text(&mut imap, "BODY.PEEK[HEADER]") == mail[..body],
            "{size}"
        );
        let subject = text(&mut imap, "BODY.PEEK[HEADER.FIELDS (SUBJECT)]");
        assert_eq!(subject, b"Subject: parts\r\n\r\n");
        assert!(
            text(&mut imap, "BODY.PEEK[2]") == mail[encoded.clone()],
            "{size}"
        );
        let from = mail.len() - 300;
        let end = text(&mut imap, &format!("BODY.PEEK[]<{from}.1000>"));
        assert!(end == mail[from..], "{size}");
        assert_eq!(text(&mut imap, "BODY.PEEK[TEXT]<3.4>"), b"ambl");
        assert_eq!(
            text(&mut imap, &format!("BODY.PEEK[]<{}.1>", mail.len())),
            b""
        );

        // RFC 9051, 6.4.5: decoded, and a literal8 only where there is a NUL.
        assert!(text(&mut imap, "BINARY.PEEK[2]") == data, "{size}");
        assert_eq!(text(&mut imap, "BINARY.PEEK[2]<4.3>"), &data[4..7]);
        assert_eq!(text(&mut imap, "BINARY[3]"), "déjà vu".as_bytes());
        let lines = imap.ok("FETCH * (BINARY.SIZE[2] BINARY.SIZE[3])");
        let sizes = format!("(BINARY.SIZE[2] {size} BINARY.SIZE[3] 9)");
        assert!(lines[0].text.ends_with(&sizes), "{}", lines[0].text);
        let (_, tagged) = imap.command("FETCH * BINARY.PEEK[4]");
        assert!(tagged.starts_with("NO [UNKNOWN-CTE]"), "{tagged}");
    }
}

#[test]
fn searches_in_large_messages_leave_others_alone() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut imap = server.imap("alice@posthorn.test");
    for n in 0..3 {
        let mut mail = format!("Subject: large {n}\r\n\r\n").into_bytes();
        mail.extend_from_slice("word word word\r\n".repeat(100_000).as_bytes());
        mail.extend_from_slice(format!("needle{n}\r\n").as_bytes());
        append(&mut imap, &mail);
    }
    append(
        &mut imap,
        b"Subject: alpha\r\n\tbeta\r\nDate: 31 Dec 2005\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: application/pdf; name=\"pdfname\"\r\n\r\nx\r\n--b--\r\n",
    );
    imap.ok("SELECT INBOX");
    for (search, hits) in [
        ("BODY needle1", "* SEARCH 2"),
        ("SUBJECT \"large 2\"", "* SEARCH 3"),
        ("TEXT \"LARGE 0\"", "* SEARCH 1"),
        ("NOT BODY needle", "* SEARCH 4"),
        ("TEXT pdfname", "* SEARCH 4"),
        ("BODY pdfname", "* SEARCH"),
        ("SUBJECT \"alpha beta\"", "* SEARCH 4"),
        ("SENTON 31-Dec-2005", "* SEARCH 4"),
    ] {
        let lines = imap.ok(&format!("SEARCH {search}"));
        assert_eq!(lines[0].text, hits, "{search}");
    }
}

/// Peak and current memory of the server, KiB.
fn memory(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()));
    let status = status.expect("status");
    let line = status.lines().find(|l| l.starts_with(field)).expect(field);
    let number = line.split_ascii_whitespace().nth(1).expect("number");
    number.parse().expect("number")
}

#[test]
fn who_asks_much_and_reads_nothing_holds_little() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut imap = server.imap("alice@posthorn.test");
    append(&mut imap, &message(&vec![7; 8_000_000]));
    imap.ok("SELECT INBOX");
    let items = |n: usize| {
        let items: Vec<String> = (0..n)
            .map(|at| format!("BINARY.PEEK[2]<{at}.1> BODY.PEEK[HEADER.FIELDS.NOT (Y)]<{at}.1>"))
            .collect();
        format!("FETCH 1 ({})", items.join(" "))
    };
    imap.ok(&items(1));
    let before = memory(&server, "VmHWM");
    imap.ok(&items(40));
    let grown = memory(&server, "VmHWM") - before;
    assert!(grown < 40 * 1024, "{grown} KiB more for 40 items");

    let before = memory(&server, "VmRSS");
    let mut silent: Vec<Imap> = (0..12)
        .map(|_| server.imap("alice@posthorn.test"))
        .collect();
    for client in &mut silent {
        client.ok("SELECT INBOX");
        client.send(b"a FETCH 1 (BINARY.PEEK[2] BODY.PEEK[2] BODY.PEEK[])\r\n");
    }
    // All of them stand where the sockets are full: each has got its first bytes.
    for client in &mut silent {
        client.stream.get_ref().peek(&mut [0]).expect("an answer");
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    let grown = memory(&server, "VmRSS").saturating_sub(before);
    // What was read for a moment may stay with the allocator; 10 MiB each would not fit.
    assert!(grown < 160 * 1024, "{grown} KiB more for 40 silent readers");
}

#[test]
fn what_has_no_place_in_a_literal_is_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    let mut imap = server.imap("alice@posthorn.test");
    imap.send(b"a APPEND INBOX {6+}\r\na\r\n\0\r\n\r\nb NOOP\r\n");
    let (_, tagged) = imap.until("a");
    assert!(tagged.starts_with("NO [CANNOT]"), "{tagged}");
    imap.until("b");
    imap.send(b"c APPEND INBOX ~{3+}\r\na\0b\r\nd NOOP\r\n");
    let (_, tagged) = imap.until("c");
    // RFC 3516, 4.4
    assert!(tagged.starts_with("NO [UNKNOWN-CTE]"), "{tagged}");
    imap.until("d");
}
