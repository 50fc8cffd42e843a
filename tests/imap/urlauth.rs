//! URLs that let others read: GENURLAUTH, URLFETCH, RESETKEY (RFC 4467), and BURL on submission
//! (RFC 4468).

use base64::Engine;

use super::common::{Imap, PASSWORD, SUBMISSION, Server, Smtp};
use super::{ALICE, server, texts};

const BOB: &str = "bob@posthorn.test";

/// Alice's mailbox and one message of two parts; the URL of it without what follows its UID.
fn prepare(a: &mut Imap) -> String {
    a.ok("CREATE box");
    let text = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
                --b\r\n\r\nfirst\r\n--b\r\nContent-Type: text/html\r\n\r\nsecond\r\n--b--\r\n";
    a.send(format!("x APPEND box {{{}+}}\r\n{text}\r\n", text.len()).as_bytes());
    assert!(a.until("x").1.starts_with("OK"));
    "imap://alice%40posthorn.test@posthorn.test/box/;UID=1".into()
}

fn sign(a: &mut Imap, rump: &str) -> String {
    let lines = a.ok(&format!("GENURLAUTH \"{rump}\" INTERNAL"));
    let line = texts(&lines)[0];
    let url = line.strip_prefix("* GENURLAUTH \"").expect(line);
    let url = url.strip_suffix('"').expect(line);
    let token = url.strip_prefix(&format!("{rump}:internal:")).expect(url);
    assert!(
        token.len() >= 32 && token.bytes().all(|b| b.is_ascii_hexdigit()),
        "{token}"
    );
    url.to_owned()
}

/// What it names; None: NIL.
fn fetch(imap: &mut Imap, url: &str) -> Option<String> {
    let lines = imap.ok(&format!("URLFETCH \"{url}\""));
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].text.starts_with(&format!("* URLFETCH \"{url}\" ")),
        "{lines:?}"
    );
    let text = lines[0].literals.first()?;
    Some(String::from_utf8(text.clone()).expect("UTF-8"))
}

#[test]
fn whom_it_is_for_and_how_long() {
    let (_home, server) = server();
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    assert!(texts(&a.ok("CAPABILITY"))[0].contains(" URLAUTH"));
    let url = prepare(&mut a);
    let user = format!("{url}/;SECTION=2;URLAUTH=user+bob%40posthorn.test");
    let user = sign(&mut a, &user);
    assert_eq!(fetch(&mut b, &user).as_deref(), Some("second"));
    assert_eq!(fetch(&mut a, &user), None);
    for access in ["anonymous", "authuser"] {
        let url = sign(&mut a, &format!("{url}/;section=1;urlauth={access}"));
        assert_eq!(fetch(&mut b, &url).as_deref(), Some("first"));
        // Nothing of it can be changed.
        assert_eq!(fetch(&mut b, &url.replace("section=1", "section=2")), None);
        assert_eq!(fetch(&mut b, &url.replace("UID=1", "UID=2")), None);
        let (rump, _) = url.rsplit_once(':').expect("a token");
        assert_eq!(fetch(&mut b, &format!("{rump}:{}", "0".repeat(66))), None);
    }
    let whole = sign(&mut a, &format!("{url};URLAUTH=authuser"));
    assert!(fetch(&mut b, &whole).is_some_and(|text| text.starts_with("Subject: s")));
    // Only submission may use these, and only for alice.
    let submit = sign(
        &mut a,
        &format!("{url};URLAUTH=submit+alice%40posthorn.test"),
    );
    assert_eq!(fetch(&mut a, &submit), None);
    let expired = sign(
        &mut a,
        &format!("{url};EXPIRE=2020-01-01T00:00:00Z;URLAUTH=anonymous"),
    );
    assert_eq!(fetch(&mut b, &expired), None);
    let later = sign(
        &mut a,
        &format!("{url};EXPIRE=2999-01-01T00:00:00Z;URLAUTH=anonymous"),
    );
    assert!(fetch(&mut b, &later).is_some());
    // Several at once, in their order.
    let lines = b.ok(&format!("URLFETCH \"{expired}\" \"{whole}\" \"nonsense\""));
    assert_eq!(lines.len(), 3);
    assert!(lines[0].text.ends_with(" NIL") && lines[2].text.ends_with("\"nonsense\" NIL"));
    // Nothing of it marks a message as read.
    let selected = a.ok("SELECT box");
    let mechanism = |line: &&str| line.starts_with("* OK [URLMECH INTERNAL] ");
    assert_eq!(texts(&selected).into_iter().filter(mechanism).count(), 1);
    assert!(!a.ok("FETCH 1 FLAGS")[0].text.contains("Seen"));

    // Nobody gives away what is not his.
    for rump in [
        format!("{url};URLAUTH=anonymous"),
        "imap://bob%40posthorn.test@elsewhere.example/INBOX/;UID=1;URLAUTH=anonymous".into(),
        "imap://bob%40posthorn.test@posthorn.test/none/;UID=1;URLAUTH=anonymous".into(),
        "imap://bob%40posthorn.test@posthorn.test/INBOX/;UID=1".into(),
        "/INBOX/;UID=1;URLAUTH=anonymous".into(),
    ] {
        let (_, tagged) = b.command(&format!("GENURLAUTH \"{rump}\" INTERNAL"));
        assert!(tagged.starts_with("BAD"), "{rump}: {tagged}");
    }
    let (_, tagged) = a.command(&format!("GENURLAUTH \"{url};URLAUTH=anonymous\" EXTERNAL"));
    assert!(tagged.starts_with("BAD"), "{tagged}");

    // What was given is taken back, and given anew.
    let (_, tagged) = a.command("RESETKEY box");
    assert!(tagged.starts_with("OK [URLMECH INTERNAL]"), "{tagged}");
    assert_eq!(fetch(&mut b, &whole), None);
    let anew = sign(&mut a, &format!("{url};URLAUTH=authuser"));
    assert_ne!(anew, whole);
    assert!(fetch(&mut b, &anew).is_some());
    a.ok("RESETKEY");
    assert_eq!(fetch(&mut b, &anew), None);
    assert!(a.command("RESETKEY none").1.starts_with("NO"));
    // A mailbox of the same name is another one.
    let last = sign(&mut a, &format!("{url};URLAUTH=authuser"));
    assert!(fetch(&mut b, &last).is_some());
    a.ok("DELETE box");
    prepare(&mut a);
    assert_eq!(fetch(&mut b, &last), None);
}

fn submission(server: &Server, user: &str) -> Smtp {
    let mut smtp = Smtp::connect(server.port(SUBMISSION)).expect("submission");
    let reply = smtp.command("EHLO phone.test").expect("EHLO");
    assert!(reply.contains("250-BURL"), "{reply}");
    let login = format!("\0{user}\0{PASSWORD}");
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    says(&mut smtp, &format!("AUTH PLAIN {login}"), "235");
    let reply = smtp.command("EHLO phone.test").expect("EHLO");
    assert!(reply.contains("BURL imap imap://"), "{reply}");
    smtp
}

fn says(smtp: &mut Smtp, line: &str, code: &str) {
    let reply = smtp.command(line).expect("a reply");
    assert!(reply.starts_with(code), "{line}: {reply}");
}

/// A phone forwards without downloading, as in RFC 4468, 6.
#[test]
fn what_is_forwarded_is_not_downloaded() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let url = prepare(&mut a);
    let of = |access: &str| format!("{url}/;SECTION=2;URLAUTH={access}");
    let url = sign(&mut a, &of("submit+alice%40posthorn.test"));
    let mut smtp = submission(&server, ALICE);
    let begin = |smtp: &mut Smtp, from: &str| {
        says(smtp, &format!("MAIL FROM:<{from}>"), "250");
        says(smtp, &format!("RCPT TO:<{BOB}>"), "250");
    };
    begin(&mut smtp, ALICE);
    let head = "Subject: forwarded\r\n\r\nSee: ";
    smtp.send(format!("BDAT {}\r\n{head}", head.len()).as_bytes())
        .expect("write");
    assert!(smtp.reply().expect("a reply").starts_with("250"));
    says(&mut smtp, &format!("BURL {url}"), "250");
    says(&mut smtp, "BDAT 0 LAST", "250");
    let mut b = server.imap(BOB);
    b.ok("SELECT INBOX");
    let lines = b.ok("FETCH * BODY.PEEK[TEXT]");
    assert_eq!(lines[0].literals[0], b"See: second");
    // Another one's, one for another, one that is none: and nothing is sent.
    let count = texts(&b.ok("STATUS INBOX (MESSAGES)"))[0].to_owned();
    let other = sign(&mut a, &of("user+bob%40posthorn.test"));
    for (n, url) in [other.as_str(), &url.replace("=2", "=1"), "imap://x/y"]
        .iter()
        .enumerate()
    {
        begin(&mut smtp, ALICE);
        let last = if n == 0 { "" } else { " LAST" };
        says(&mut smtp, &format!("BURL {url}{last}"), "554 5.7.0");
        says(&mut smtp, "BDAT 0 LAST", "503");
    }
    // EHLO names this server: one's own needs no token there (RFC 4468, 3.3).
    let (own, _) = url.rsplit_once(";URLAUTH").expect("a token");
    begin(&mut smtp, ALICE);
    says(&mut smtp, &format!("BURL {own} LAST"), "250");
    b.ok("NOOP");
    let lines = b.ok("FETCH * BODY.PEEK[TEXT]");
    assert_eq!(lines[0].literals[0], b"second");
    let mut bobs = submission(&server, BOB);
    begin(&mut bobs, BOB);
    says(&mut bobs, &format!("BURL {own} LAST"), "554 5.7.0");
    assert_eq!(fetch(&mut a, own), None);
    begin(&mut bobs, BOB);
    says(&mut bobs, &format!("BURL {url} LAST"), "554 5.7.0");
    begin(&mut bobs, BOB);
    says(&mut bobs, &format!("BURL {other} LAST"), "250");
    a.ok("RESETKEY");
    begin(&mut smtp, ALICE);
    says(&mut smtp, &format!("BURL {url} LAST"), "554 5.7.0");
    let after = texts(&b.ok("STATUS INBOX (MESSAGES)"))[0].to_owned();
    assert_ne!(after, count);
    let lines = b.ok("FETCH * BODY.PEEK[TEXT]");
    assert_eq!(lines[0].literals[0], b"second");
}
