//! RFC 8474, 4: what a mailbox is called changes, its MAILBOXID does not, and no other ever has it.

use super::common::{Imap, Server};
use super::{ALICE, append, server, texts};

/// What stands in `MAILBOXID (...)`.
fn id(text: &str) -> String {
    let (_, rest) = text.split_once("MAILBOXID (").expect(text);
    let id = rest.split(')').next().unwrap_or_default();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    assert!(
        !id.is_empty() && id.len() <= 255 && id.bytes().all(fits),
        "{text}"
    );
    id.to_owned()
}

fn status(imap: &mut Imap, name: &str) -> String {
    id(&imap.ok(&format!("STATUS {name} (MAILBOXID)"))[0].text)
}

#[test]
fn a_mailbox_id_outlives_its_name_and_is_not_given_again() {
    let (home, server) = server();
    let mut a = server.imap(ALICE);
    // The example of RFC 8474, 4.1 to 4.3.
    let (_, foo) = a.command("CREATE foo");
    let (_, bar) = a.command("CREATE bar");
    assert!(foo.starts_with("OK [MAILBOXID ("), "{foo}");
    let (foo, bar) = (id(&foo), id(&bar));
    assert_ne!(foo, bar);
    assert!(a.command("CREATE foo").1.starts_with("NO"));
    for command in ["SELECT foo", "EXAMINE foo"] {
        let lines = a.ok(command);
        let told = lines.iter().find(|l| l.text.contains("[MAILBOXID"));
        assert_eq!(id(&told.expect("MAILBOXID").text), foo);
    }
    assert_eq!(status(&mut a, "foo"), foo);
    a.ok("RENAME foo renamed");
    assert_eq!(status(&mut a, "renamed"), foo);
    assert_eq!(status(&mut a, "bar"), bar);
    let lines = a.ok("LIST \"\" (bar renamed INBOX) RETURN (STATUS (MAILBOXID))");
    let mut listed: Vec<String> = texts(&lines)
        .into_iter()
        .filter(|l| l.starts_with("* STATUS"))
        .map(id)
        .collect();
    let inbox = listed.remove(0);
    assert_eq!(listed, [bar.as_str(), &foo]);

    // RFC 8474, 4: INBOX is another mailbox than the one that its messages go to.
    append(&mut a, "INBOX", "");
    a.ok("RENAME INBOX old");
    assert_eq!(status(&mut a, "INBOX"), inbox);
    assert_ne!(status(&mut a, "old"), inbox);

    let mut given = vec![foo.clone(), bar, inbox, status(&mut a, "old")];
    a.ok("DELETE renamed");
    server.stop();
    let server = Server::start(&home.path().join("data"), &[]);
    let mut a = server.imap(ALICE);
    for name in ["renamed", "foo"] {
        let (_, tagged) = a.command(&format!("CREATE {name}"));
        let id = id(&tagged);
        assert!(!given.contains(&id), "{id}");
        given.push(id);
    }
    assert_eq!(status(&mut a, "INBOX"), given[2]);
    let mut other = server.imap("bob@posthorn.test");
    assert!(!given.contains(&status(&mut other, "INBOX")));
}

/// RFC 8474, 5.1: what must stay the same of a message is the same of all that have its EMAILID.
/// One mail to two accounts says in its header to whom it came.
#[test]
fn one_mail_in_two_mailboxes_has_two_ids() {
    let (_home, server) = server();
    let both = [ALICE, "bob@posthorn.test"];
    let mail = b"Subject: s\r\n\r\nbody\r\n";
    let reply = server.smtp().deliver("sender@example.net", &both, mail);
    assert!(reply.expect("SMTP").starts_with("250"));
    server.imap(both[1]).ok("SETACL INBOX alice lr");
    let mut a = server.imap(ALICE);
    a.ok("CREATE copies");
    let mut ids = Vec::new();
    for mailbox in ["INBOX", "\"Other Users/bob@posthorn.test/INBOX\""] {
        a.ok(&format!("SELECT {mailbox}"));
        let told = a.ok("FETCH 1 (RFC822.SIZE EMAILID THREADID)")[0]
            .text
            .clone();
        let (size, rest) = told.split_once(" EMAILID (").expect(&told);
        let (id, thread) = rest.split_once(") ").expect(&told);
        ids.push((size.to_owned(), id.to_owned(), thread.to_owned()));
        a.ok("COPY 1 copies");
    }
    let [(size, id, thread), (other_size, other, other_thread)] = &ids[..] else {
        panic!("{ids:?}");
    };
    assert_ne!(size, other_size);
    assert_ne!(id, other);
    assert_eq!(thread, other_thread);
    // Copies keep them.
    a.ok("SELECT copies");
    for (n, id) in [(1, id), (2, other)] {
        let found = a.ok(&format!("SEARCH EMAILID {id}"));
        assert_eq!(texts(&found), [format!("* SEARCH {n}")]);
        let told = a.ok(&format!("FETCH {n} EMAILID"));
        assert_eq!(texts(&told), [format!("* {n} FETCH (EMAILID ({id}))")]);
    }
}
