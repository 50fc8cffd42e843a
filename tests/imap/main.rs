//! IMAP rules from outside, on the real binary: what the answers say and what they leave behind.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod acl;
mod append;
mod append_many;
mod bearer;
mod binary;
mod compress;
mod condstore;
mod contexts;
mod counted;
mod deleted;
mod devices;
mod expunged;
mod fulltext;
mod habits;
mod items;
mod keywords;
mod large_parts;
mod listing;
mod malformed;
mod message_limit;
mod metadata;
mod multisearch;
mod names;
mod notify;
mod notify_shared;
mod objectid;
mod pipelined;
mod qresync;
mod quota_set;
mod recent;
mod restart;
mod scram;
mod search;
mod seen;
mod sets;
mod shared;
mod slow;
mod sort;
mod spelling;
mod uidonly;
mod unreadable;
mod urlauth;
mod utf8;
mod world;

use common::serve::{AUTH, Serving, configuration};
use common::{IMAP, Imap, Line, PASSWORD, Server};

const ALICE: &str = "alice@posthorn.test";

fn server() -> (tempfile::TempDir, Server) {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Server::start(&home.path().join("data"), &[]);
    (home, server)
}

/// A server with these lines in `[imap]`.
fn configured(lines: &str) -> (tempfile::TempDir, Serving) {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| {
        configuration(base, "data", AUTH).replace("[imap]\n", &format!("[imap]\n{lines}\n"))
    });
    (home, server)
}

fn login(server: &Serving) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {ALICE} {PASSWORD}"));
    imap
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|l| l.text.as_str()).collect()
}

/// The whole tagged answer of an APPEND with these words before the message.
fn append(imap: &mut Imap, mailbox: &str, words: &str) -> String {
    let command = format!("x APPEND {mailbox} {words}{{14+}}\r\nSubject: s\r\n\r\n\r\n");
    imap.send(command.as_bytes());
    imap.until("x").1
}

/// Appends a message with this header and body.
fn append_mail(imap: &mut Imap, mailbox: &str, mail: &str) {
    let mail = mail.replace('\n', "\r\n");
    let command = format!("x APPEND {mailbox} {{{}+}}\r\n{mail}\r\n", mail.len());
    imap.send(command.as_bytes());
    let tagged = imap.until("x").1;
    assert!(tagged.starts_with("OK"), "{tagged}");
}

/// The answer must be NO with this code.
fn refused(imap: &mut Imap, command: &str, code: &str) {
    let (_, tagged) = imap.command(command);
    assert!(
        tagged.starts_with(&format!("NO [{code}]")),
        "{command}: {tagged}"
    );
}

/// What is answered to a command, word for word; of the tagged line only how it begins.
#[track_caller]
fn answers(imap: &mut Imap, command: &str, lines: &[&str], tagged: &str) {
    let (told, ended) = imap.command(command);
    assert_eq!(texts(&told), lines, "{command}");
    assert!(ended.starts_with(tagged), "{command}: {ended}");
}
