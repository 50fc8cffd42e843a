//! neomutt, and mutt that it came from: keys are pushed, and the server asked what they did.

use std::path::Path;

use super::common::{IMAP, PASSWORD, Server, have};
use super::trace::{Trace, count, has};
use super::{ALICE, demo, patient, run};

/// Starts it with its files in `home`, types the keys, and waits for its end.
fn type_in(program: &str, home: &Path, port: u16, settings: &str, keys: &str) {
    let home = home.display();
    let text = format!(
        "set imap_user={ALICE}\nset imap_pass={PASSWORD}\nset ssl_starttls=no\n\
         set ssl_force_tls=no\nset folder=imap://127.0.0.1:{port}/\nset spoolfile=+INBOX\n\
         set quit=yes\nset delete=yes\nset confirmappend=no\nset confirmcreate=no\n\
         set mail_check=60\nset sleep_time=0\nset mark_old=no\nset record=\n{settings}\n\
         push \"{keys}\"\n"
    );
    let config = format!("{home}/muttrc");
    std::fs::write(&config, text).expect("write");
    // It wants a terminal.
    run(patient("script")
        .args(["-qec"])
        .arg(format!("TERM=xterm HOME={home} {program} -n -F {config}"))
        .arg("/dev/null"));
}

fn deliver(server: &Server, subjects: &[&str]) {
    let mut smtp = server.smtp();
    for subject in subjects {
        let message = format!(
            "From: Bob <b@example.net>\r\nSubject: {subject}\r\n\
             Message-ID: <{subject}@example.net>\r\n\r\nhello {subject}\r\n"
        );
        let reply = smtp.deliver("b@example.net", &[ALICE], message.as_bytes());
        assert!(reply.expect("reply").starts_with("250"));
    }
}

/// The subjects in a mailbox, in its order.
fn subjects(server: &Server, mailbox: &str) -> Vec<String> {
    let mut imap = server.imap(ALICE);
    imap.ok(&format!("EXAMINE {mailbox}"));
    let lines = imap.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]");
    let texts = lines.iter().flat_map(|line| &line.literals);
    texts
        .map(|text| {
            let text = String::from_utf8_lossy(text);
            let subject = text.trim().strip_prefix("Subject: ").expect("a subject");
            subject.to_owned()
        })
        .collect()
}

#[test]
fn neomutt_reads_and_saves() {
    if !have("neomutt") {
        return;
    }
    let (home, server) = demo();
    deliver(&server, &["for-mutt"]);
    // Copies the first message to Archive, flags it, quits.
    type_in(
        "neomutt",
        home.path(),
        server.port(IMAP),
        "set header_cache=",
        "<flag-message><copy-message>=Archive<enter><quit>",
    );
    assert_eq!(subjects(&server, "Archive"), ["for-mutt"]);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX");
    let lines = imap.ok("SEARCH FLAGGED");
    assert_eq!(lines[0].text, "* SEARCH 1");
}

/// While it idles: a search on the server, mail to the trash, a mailbox that is made by saving.
#[test]
fn neomutt_idles_searches_and_files() {
    if !have("neomutt") {
        return;
    }
    let (home, server) = demo();
    deliver(&server, &["one", "two", "three"]);
    let trace = Trace::before(server.port(IMAP));
    type_in(
        "neomutt",
        home.path(),
        trace.port,
        "set header_cache=\nset imap_idle=yes\nset imap_check_subscribed=yes\nset trash=+Trash",
        "<limit>=b 'hello two'<enter><delete-message><limit>all<enter><sync-mailbox>\
         <change-folder>=Sent<enter><change-folder>=INBOX<enter>\
         <save-message>=New<enter><sync-mailbox><quit>",
    );
    // It asks whether New is there, and tries whether COPY makes it.
    let mut lines = trace.take_with(&["[NONEXISTENT]", "[TRYCREATE]"]);
    has(&lines, "SEARCH BODY \"hello two\"");
    has(&lines, " IDLE");
    assert_eq!(count(&lines, "[TRYCREATE]"), 1, "{lines:?}");
    lines.retain(|line| line.starts_with("C: ") && line.contains(" CREATE "));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(subjects(&server, "Trash")[0], "two");
    assert_eq!(subjects(&server, "New").len(), 1);
    assert_eq!(subjects(&server, "INBOX").len(), 1);
}

/// Starts three times with a header cache: what happened meanwhile is told by QRESYNC, and no
/// header is fetched that is there already.
fn comes_back(program: &str) {
    if !have(program) {
        return;
    }
    let (home, server) = demo();
    let cache = home.path().join("cache");
    std::fs::create_dir(&cache).expect("mkdir");
    let settings = format!(
        "set header_cache={}\nset imap_condstore=yes\nset imap_qresync=yes",
        cache.display()
    );
    let trace = Trace::before(server.port(IMAP));
    let start = |keys: &str| {
        type_in(program, home.path(), trace.port, &settings, keys);
        trace.take()
    };
    deliver(&server, &["1", "2", "3", "4", "5", "6"]);
    let lines = start("<quit>");
    has(&lines, " ENABLE QRESYNC");
    has(&lines, "S: * ENABLED QRESYNC");
    has(&lines, " FETCH 1:6 (UID FLAGS INTERNALDATE");

    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 2 +FLAGS (\\Flagged)");
    deliver(&server, &["7"]);
    let lines = start("<tag-pattern>~F<enter><tag-prefix><copy-message>=Archive<enter><quit>");
    has(&lines, " UID FETCH 1:6 (FLAGS) (CHANGEDSINCE ");
    has(&lines, "S: * 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (");
    has(&lines, " FETCH 7 (UID FLAGS INTERNALDATE");
    assert_eq!(count(&lines, "INTERNALDATE \""), 1, "{}", lines.join("\n"));
    assert_eq!(subjects(&server, "Archive"), ["2"]);

    imap.ok("STORE 2 -FLAGS (\\Flagged)");
    imap.ok("STORE 3:4 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    deliver(&server, &["8"]);
    let lines = start("<tag-pattern>!~F<enter><tag-prefix><copy-message>=Sent<enter><quit>");
    has(&lines, " UID FETCH 1:7 (FLAGS) (CHANGEDSINCE ");
    has(&lines, "S: * VANISHED (EARLIER) 3:4");
    has(&lines, "S: * 2 FETCH (UID 2 FLAGS () MODSEQ (");
    // neomutt leaves a hole in its numbers for each message that vanished, finds that they do
    // not agree, and asks for all flags and some headers again; mutt doesn't.
    if program == "mutt" {
        assert_eq!(count(&lines, "INTERNALDATE \""), 1, "{}", lines.join("\n"));
    }
    assert_eq!(subjects(&server, "Sent"), ["1", "2", "5", "6", "7", "8"]);
}

#[test]
fn neomutt_comes_back_by_qresync() {
    comes_back("neomutt");
}

#[test]
fn mutt_comes_back_by_qresync() {
    comes_back("mutt");
}
