//! What clients are known to do, word for word as far as it is known, and what each must get.
//! `docs/imap.md` lists the habits with the tests that are named after them.

mod android;
mod apple;
mod desktop;
mod outlook;
mod sync;

use super::common::{Imap, Line, Server};
use super::{ALICE, server, texts};

const MAIL: &str = "From: Bob <bob@example.org>\r\n\
To: alice@posthorn.test\r\n\
Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
Date: Mon, 2 Mar 2026 10:00:00 +0100\r\n\
Message-ID: <habit@example.org>\r\n\
MIME-Version: 1.0\r\n\
Content-Type: multipart/mixed; boundary=x\r\n\
\r\n\
--x\r\n\
Content-Type: text/plain; charset=utf-8\r\n\
\r\n\
Hello\r\n\
--x\r\n\
Content-Type: application/pdf; name=\"a.pdf\"\r\n\
Content-Disposition: attachment; filename=\"a.pdf\"\r\n\
Content-Transfer-Encoding: base64\r\n\
\r\n\
JVBERi0xLjQK\r\n\
--x--\r\n";

/// As somebody sends it.
fn deliver(server: &Server, count: usize) {
    let mut smtp = server.smtp();
    for _ in 0..count {
        let reply = smtp.deliver("bob@example.org", &[ALICE], MAIL.as_bytes());
        assert!(reply.expect("SMTP").starts_with("250"));
    }
}

/// With that many messages in INBOX.
fn inbox(count: usize) -> (tempfile::TempDir, Server, Imap) {
    let (home, server) = server();
    deliver(&server, count);
    let imap = server.imap(ALICE);
    (home, server, imap)
}

/// The only FETCH in an answer.
fn one(lines: Vec<Line>) -> Line {
    let mut all = lines.into_iter().filter(|l| l.text.contains(" FETCH ("));
    let line = all.next().expect("a FETCH");
    assert!(all.next().is_none(), "more than one FETCH");
    line
}

/// Tagged and untagged lines that begin so.
fn count(lines: &[Line], begin: &str, part: &str) -> usize {
    let fits = |l: &&Line| l.text.starts_with(begin) && l.text.contains(part);
    lines.iter().filter(fits).count()
}

/// APPEND with a literal that waits to be asked for.
fn append_waiting(imap: &mut Imap, words: &str, text: &str) -> String {
    imap.send(format!("w APPEND {words} {{{}}}\r\n", text.len()).as_bytes());
    assert!(imap.line().expect("+").text.starts_with('+'));
    imap.send(format!("{text}\r\n").as_bytes());
    imap.until("w").1
}

fn can(imap: &mut Imap, name: &str) -> bool {
    let lines = imap.ok("CAPABILITY");
    lines[0].text.split(' ').any(|word| word == name)
}
