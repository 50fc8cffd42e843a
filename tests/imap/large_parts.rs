//! Parts of large messages, and large messages put together: neither is ever in memory whole, and
//! a piece of a part costs a piece. What the system counts of the server's process says so.

use base64::Engine as _;

use super::common::{Imap, Server};
use super::{ALICE, server};

/// Of the part that is large, decoded.
const CONTENT: usize = 18 * 1024 * 1024;
/// What a command may take in memory, KiB: more than it needs, less than the message has.
const MOST: u64 = 14 * 1024;

fn figure(server: &Server, file: &str, field: &str) -> u64 {
    let path = format!("/proc/{}/{file}", server.child.id());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// How far memory grew meanwhile, KiB, at most.
fn grown<R>(server: &Server, work: impl FnOnce() -> R) -> (u64, R) {
    let path = format!("/proc/{}/clear_refs", server.child.id());
    // From now on the peak is that of what follows.
    std::fs::write(path, "5").unwrap();
    let before = figure(server, "status", "VmRSS");
    let result = work();
    let peak = figure(server, "status", "VmHWM");
    (peak.saturating_sub(before), result)
}

/// Content that does not compress, and its base64 in lines.
fn content() -> (Vec<u8>, Vec<u8>) {
    let mut state = 1u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005) | 1;
        state = state.wrapping_add(state >> 29);
        (state >> 40) as u8
    })
    .take(CONTENT)
    .collect();
    let text = base64::engine::general_purpose::STANDARD.encode(&content);
    let lines = text.as_bytes().chunks(76).flat_map(|line| [line, b"\r\n"]);
    (content, lines.collect::<Vec<_>>().concat())
}

fn message(body: &[u8]) -> Vec<u8> {
    let top = "From: Ann <ann@x.test>\r\nSubject: large\r\nMIME-Version: 1.0\r\n\
               Content-Type: multipart/mixed; boundary=b\r\n\r\n\
               --b\r\n\r\nfirst\r\nwords\r\n\
               --b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    let end = b"--b\r\nContent-Type: text/html\r\n\r\n<p>last\r\n--b--\r\n";
    [top.as_bytes(), body, end].concat()
}

fn append(imap: &mut Imap, mail: &[u8]) {
    imap.send(format!("x APPEND INBOX {{{}+}}\r\n", mail.len()).as_bytes());
    for piece in mail.chunks(1 << 20) {
        imap.send(piece);
    }
    imap.send(b"\r\n");
    let tagged = imap.until("x").1;
    assert!(tagged.starts_with("OK"), "{tagged}");
}

/// The one literal of the answer.
fn literal(imap: &mut Imap, item: &str) -> Vec<u8> {
    let lines = imap.ok(&format!("FETCH * {item}"));
    let mut literals = lines.into_iter().flat_map(|line| line.literals);
    literals.next().expect(item)
}

#[test]
fn a_large_message_comes_in_and_is_read_by_pieces() {
    let (_home, server) = server();
    let mut imap = server.imap(ALICE);
    let (content, body) = content();
    let mail = message(&body);
    // What the allocator, the log and the index keep for good is there afterwards.
    append(&mut imap, &message(&body[..8 * 1024 * 1024]));
    let (took, ()) = grown(&server, || append(&mut imap, &mail));
    assert!(took < MOST, "{took} KiB more for an APPEND");
    imap.ok("SELECT INBOX");

    // The structure was found while it came in.
    let lines = imap.ok("FETCH * BODYSTRUCTURE");
    let size = format!("\"base64\" {} NIL", body.len() - 2);
    assert!(lines[0].text.contains(&size), "{}", lines[0].text);
    for (item, expected) in [
        ("BODY.PEEK[1]", &b"first\r\nwords"[..]),
        ("BODY.PEEK[2]<0.1000>", &body[..1000]),
        (
            "BINARY.PEEK[2]<9000000.1000>",
            &content[9_000_000..9_001_000],
        ),
        ("BODY.PEEK[2.MIME]<0.14>", b"Content-Type: "),
        ("BODY.PEEK[3]", b"<p>last"),
    ] {
        let (took, got) = grown(&server, || literal(&mut imap, item));
        assert!(got == expected, "{item}");
        assert!(took < MOST, "{took} KiB more for {item}");
    }
    let (took, lines) = grown(&server, || imap.ok("FETCH * (BODY BINARY.SIZE[2])"));
    let size = format!("BINARY.SIZE[2] {}", content.len());
    assert!(lines[0].text.contains(&size), "{}", lines[0].text);
    assert!(took < MOST, "{took} KiB more for BODY and BINARY.SIZE");

    // A piece costs a piece.
    const PIECE: usize = 200_000;
    for (name, whole) in [("BODY", &body[..body.len() - 2]), ("BINARY", &content)] {
        let before = figure(&server, "io", "rchar:");
        let (mut at, mut pieces) = (0, 0);
        while at < whole.len() {
            let item = format!("{name}.PEEK[2]<{at}.{PIECE}>");
            let end = whole.len().min(at + PIECE);
            assert!(literal(&mut imap, &item) == whole[at..end], "{item}");
            // All of them would take their time here; these are from all over it.
            (at, pieces) = (at + 7 * PIECE, pieces + 1);
        }
        let read = figure(&server, "io", "rchar:") - before;
        // Twice, to know before it is promised, and what lies around it.
        let most = pieces * 2 * 1024 * 1024;
        assert!(read < most, "{name}: {read} bytes for {pieces} pieces");
    }
}

#[test]
fn a_large_part_is_referred_to_by_pieces() {
    let (_home, server) = server();
    let mut imap = server.imap(ALICE);
    let (_, body) = content();
    append(&mut imap, &message(&body));
    imap.ok("SELECT INBOX");
    let head = "Subject: again\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    for (url, size) in [
        ("/INBOX/;UID=1/;SECTION=2", body.len() - 2),
        ("/INBOX/;UID=1", message(&body).len()),
    ] {
        let (took, ()) = grown(&server, || {
            let size = head.len();
            imap.send(format!("c APPEND INBOX CATENATE (TEXT {{{size}+}}\r\n{head}").as_bytes());
            imap.send(format!(" URL \"{url}\")\r\n").as_bytes());
            let tagged = imap.until("c").1;
            assert!(tagged.starts_with("OK"), "{tagged}");
        });
        assert!(took < MOST, "{took} KiB more for {url}");
        let lines = imap.ok("FETCH * RFC822.SIZE");
        let size = format!("RFC822.SIZE {})", head.len() + size);
        assert!(lines[0].text.ends_with(&size), "{}", lines[0].text);
    }
    let start = body.len() - 1002;
    let end = literal(&mut imap, &format!("BODY.PEEK[TEXT]<{start}.1000>"));
    assert_eq!(end.len(), 1000);
}
