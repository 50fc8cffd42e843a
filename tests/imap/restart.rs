//! What clients keep about mailboxes and messages is true after `kill -9`, and after the index was
//! built anew.

use super::common::{Imap, Server};
use super::{ALICE, append, append_mail, texts};

const BOB: &str = "bob@posthorn.test";
const SHARED: &str = "\"Other Users/alice@posthorn.test/box\"";

/// All that stays, as the two are told it.
fn facts(server: &Server) -> Vec<String> {
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    let mut all = Vec::new();
    let mut ask = |imap: &mut Imap, command: &str| {
        let lines = imap.ok(command);
        for line in &lines {
            all.push(format!("{command}: {} {:?}", line.text, line.literals));
        }
    };
    let status = "UIDVALIDITY UIDNEXT MESSAGES UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID";
    let list = format!("LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE STATUS ({status}))");
    ask(&mut a, &list);
    for name in ["box", "box/in", "INBOX"] {
        ask(&mut a, &format!("GETACL {name}"));
        ask(
            &mut a,
            &format!("GETMETADATA (DEPTH infinity) {name} (/shared /private)"),
        );
    }
    ask(&mut a, "GETMETADATA \"\" /private/theme");
    a.ok("ENABLE CONDSTORE");
    for name in ["box", "box/in"] {
        a.ok(&format!("EXAMINE {name}"));
        ask(
            &mut a,
            "UID FETCH 1:* (UID FLAGS MODSEQ EMAILID THREADID SAVEDATE INTERNALDATE RFC822.SIZE)",
        );
    }
    ask(&mut b, &format!("MYRIGHTS {SHARED}"));
    ask(&mut b, &format!("STATUS {SHARED} ({status})"));
    ask(&mut b, &format!("GETMETADATA {SHARED} /shared/comment"));
    ask(&mut b, "LSUB \"\" *");
    all
}

fn fill(server: &Server) {
    let (mut a, mut b) = (server.imap(ALICE), server.imap(BOB));
    a.ok("CREATE old");
    a.ok("DELETE old");
    a.ok("CREATE box/in");
    a.ok("CREATE sent2");
    for mail in [
        "Message-ID: <1@x>\nSubject: one\n\n",
        "Message-ID: <2@x>\nIn-Reply-To: <1@x>\nSubject: two\n\n",
        "Message-ID: <3@x>\nReferences: <1@x> <2@x>\nSubject: three\n\n",
        "Subject: none\n\n",
    ] {
        append_mail(&mut a, "box", mail);
    }
    append(
        &mut a,
        "box",
        "(\\Seen $Work) \"17-Jul-1996 02:44:25 -0700\" ",
    );
    a.ok("SELECT box");
    a.ok("STORE 2 +FLAGS.SILENT (\\Flagged word)");
    a.ok("COPY 1:2 box/in");
    a.ok("UID MOVE 3 box/in");
    a.ok("UID STORE 4 +FLAGS.SILENT (\\Deleted)");
    a.ok("UID EXPUNGE 4");
    a.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)");
    a.ok("SETMETADATA box (/shared/comment \"shared\" /private/comment \"my own\")");
    a.ok("SETMETADATA \"\" (/private/theme \"dark\")");
    a.ok(&format!("SETACL box {BOB} lrsw"));
    a.ok("SETACL box anyone l");
    a.ok(&format!("SETACL box -{BOB} w"));
    a.ok("RENAME sent2 sent3");
    a.ok("SUBSCRIBE sent3");
    b.ok(&format!("SUBSCRIBE {SHARED}"));
}

#[test]
fn what_clients_keep_is_true_after_a_crash() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let mut server = Server::start(&dir, &[]);
    fill(&server);
    let before = facts(&server);
    for word in [
        "EMAILID",
        "THREADID",
        "SAVEDATE \"",
        "MODSEQ (",
        "MAILBOXID (",
        "my own",
        "dark",
        "anyone l",
    ] {
        assert!(before.iter().any(|fact| fact.contains(word)), "{word}");
    }
    for anew in [false, true, false] {
        let base = server.base;
        server.kill();
        if anew {
            std::fs::write(dir.join("rebuild-index"), b"").expect("a mark");
        }
        server = Server::start_at(&dir, base, &[]);
        let now = facts(&server);
        for (before, now) in before.iter().zip(&now) {
            assert_eq!(before, now, "built anew: {anew}");
        }
        assert_eq!(before.len(), now.len());
    }
    // And what comes next is higher than all that was told.
    let mut a = server.imap(ALICE);
    let number = |imap: &mut Imap, item: &str| -> u64 {
        let lines = imap.ok(&format!("STATUS box ({item})"));
        let text = texts(&lines)[0].trim_end_matches(')');
        text.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let modseq = number(&mut a, "HIGHESTMODSEQ");
    let next = number(&mut a, "UIDNEXT");
    let tagged = append(&mut a, "box", "");
    assert!(tagged.contains(&format!(" {next}] ")), "{tagged}");
    assert!(number(&mut a, "HIGHESTMODSEQ") > modseq);
}
