//! A mailbox of somebody else that may be seen, and not read (RFC 4314, 4: `l` without `r`): no
//! way leads to what is in it.

use base64::Engine;

use super::acl::BOB;
use super::common::{Imap, PASSWORD, SUBMISSION, Server, Smtp};
use super::{ALICE, append, append_mail, server, texts};

const SECRET: &str = "\"Other Users/alice@posthorn.test/Secret\"";

/// What each way answers: untagged lines without what differs from time to time, and the tagged
/// one's beginning.
fn ways(bob: &mut Imap) -> Vec<(String, Vec<String>, String)> {
    let url = "/Other%20Users/alice%40posthorn.test/Secret/;UID=1";
    let mut all: Vec<String> = [
        "SELECT SECRET",
        "EXAMINE SECRET",
        "STATUS SECRET (MESSAGES UIDNEXT UNSEEN SIZE HIGHESTMODSEQ MAILBOXID)",
        "ESEARCH IN (mailboxes SECRET) RETURN (ALL) SUBJECT treasure",
        "ESEARCH IN (mailboxes SECRET) RETURN (COUNT) SUBJECT treasure",
        "ESEARCH IN (subtree SECRET) SUBJECT treasure",
        "ESEARCH IN (subtree-one \"Other Users/alice@posthorn.test\") SUBJECT treasure",
        "ESEARCH IN (subscribed) SUBJECT treasure",
        "GETMETADATA SECRET /shared/comment",
        "GETMETADATA (DEPTH infinity) SECRET /shared",
        "LIST \"\" SECRET RETURN (STATUS (MESSAGES UIDNEXT) METADATA (/shared/comment))",
        "NOTIFY SET STATUS (mailboxes SECRET (MessageNew MessageExpunge))",
    ]
    .map(|way| way.replace("SECRET", SECRET))
    .into();
    all.push(format!("APPEND copies CATENATE (URL \"{url}\")"));
    all.push(format!(
        "APPEND copies CATENATE (URL \"{url}/;SECTION=HEADER\")"
    ));
    let answer = |way: String| {
        let (lines, tagged) = bob.command(&way);
        // RFC 9051, 6.3.2: SELECT says that.
        bob.command("UNSELECT");
        bob.command("NOTIFY NONE");
        let lines = texts(&lines).into_iter().map(str::to_owned).collect();
        (way, lines, tagged)
    };
    all.into_iter().map(answer).collect()
}

#[test]
fn who_may_only_see_a_mailbox_learns_nothing_of_what_is_in_it() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    alice.ok("CREATE Secret");
    append_mail(&mut alice, "Secret", "Subject: treasure\n\nmap\n");
    alice.ok("SETMETADATA Secret (/shared/comment \"where it is\")");
    bob.ok(&format!("SUBSCRIBE {SECRET}"));
    bob.ok("CREATE copies");
    alice.ok(&format!("SETACL Secret {BOB} lr"));
    for (way, lines, tagged) in ways(&mut bob) {
        assert!(tagged.starts_with("OK"), "{way}: {tagged}");
        let says = lines.len() > usize::from(way.starts_with("LIST"));
        assert!(says || way.starts_with("APPEND"), "{way}: {lines:?}");
    }
    // The same of what is selected, and lost meanwhile.
    bob.ok(&format!("SELECT {SECRET}"));
    alice.ok(&format!("SETACL Secret {BOB} l"));
    let (_, tagged) = bob.command("APPEND copies CATENATE (URL \";UID=1\")");
    assert!(tagged.starts_with("NO [BADURL"), "{tagged}");
    bob.ok(&format!("MYRIGHTS {SECRET}"));
    for (way, lines, tagged) in ways(&mut bob) {
        let (told, answer) = match way.split(' ').next() {
            Some("ESEARCH") => (vec![], "OK"),
            Some("LIST") => (
                vec![format!("* LIST (\\HasNoChildren) \"/\" {SECRET}")],
                "OK",
            ),
            Some("NOTIFY") => {
                let closed =
                    format!("* LIST (\\HasNoChildren \\NoAccess \\Subscribed) \"/\" {SECRET}");
                (vec![closed], "OK")
            }
            Some("APPEND") => (vec![], "NO [BADURL"),
            _ => (vec![], "NO [NOPERM]"),
        };
        assert_eq!(lines, told, "{way}");
        assert!(tagged.starts_with(answer), "{way}: {tagged}");
    }
    // The quota is its owner's, and of that nothing is told either.
    let lines = bob.ok(&format!("GETQUOTAROOT {SECRET}"));
    assert_eq!(texts(&lines), [format!("* QUOTAROOT {SECRET}")]);
    let (_, tagged) = bob.command(&format!("GETQUOTA {ALICE}"));
    assert!(tagged.starts_with("NO [NOPERM]"), "{tagged}");
    // Whoever may read it would hear of this.
    bob.ok(&format!(
        "NOTIFY SET (mailboxes {SECRET} (MessageNew MessageExpunge))"
    ));
    append(&mut alice, "Secret", "");
    assert!(bob.ok("NOOP").is_empty());
    urls(&server, &mut bob);
}

/// Without a token there is none of hers, by whatever name.
fn urls(server: &Server, bob: &mut Imap) {
    let hers = "imap://alice%40posthorn.test@posthorn.test/Secret/;UID=1";
    let shared = "imap://bob%40posthorn.test@posthorn.test/Other%20Users/\
                  alice%40posthorn.test/Secret/;UID=1";
    let mut smtp = Smtp::connect(server.port(SUBMISSION)).expect("submission");
    let mut says = |line: &str, code: &str| {
        let reply = smtp.command(line).expect("a reply");
        assert!(reply.starts_with(code), "{line}: {reply}");
    };
    let login = format!("\0{BOB}\0{PASSWORD}");
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    says("EHLO phone.test", "250");
    says(&format!("AUTH PLAIN {login}"), "235");
    for url in [hers, shared] {
        let lines = bob.ok(&format!("URLFETCH \"{url}\""));
        assert_eq!(texts(&lines), [format!("* URLFETCH \"{url}\" NIL")]);
        let rump = format!("{url};URLAUTH=anonymous");
        let (lines, tagged) = bob.command(&format!("GENURLAUTH \"{rump}\" INTERNAL"));
        assert!(lines.is_empty() && tagged.starts_with("BAD"), "{tagged}");
        says(&format!("MAIL FROM:<{BOB}>"), "250");
        says(&format!("RCPT TO:<{BOB}>"), "250");
        says(&format!("BURL {url} LAST"), "554 5.7.0");
    }
}

/// RFC 8508, 4.1: what takes a message away needs the rights that there are now.
#[test]
fn what_is_replaced_is_replaced_by_right() {
    let (_home, server) = server();
    let (mut alice, mut bob) = (server.imap(ALICE), server.imap(BOB));
    alice.ok("CREATE Secret");
    append(&mut alice, "Secret", "");
    alice.ok(&format!("SETACL Secret {BOB} lrite"));
    bob.ok(&format!("SELECT {SECRET}"));
    alice.ok(&format!("SETACL Secret {BOB} lri"));
    let command = format!("REPLACE 1 {SECRET} {{1+}}\r\nx");
    let (_, tagged) = bob.command(&command);
    assert!(tagged.starts_with("NO [NOPERM]"), "{tagged}");
    alice.ok(&format!("SETACL Secret {BOB} lrite"));
    bob.ok("NOOP");
    bob.ok(&command);
}
