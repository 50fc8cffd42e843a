//! Libraries of Python: smtplib, imaplib and IMAPClient.

use std::process::Command;

use super::common::{IMAP, IMAPS, SMTP, SUBMISSION, SUBMISSIONS, have};
use super::trace::Trace;
use super::{demo, give_quota, patient, python_has, run, script};

#[test]
fn python_libraries() {
    if !have("python3") {
        return;
    }
    let (_home, server) = demo();
    run(Command::new("python3")
        .arg(script("library.py"))
        .args([SMTP, SUBMISSION, SUBMISSIONS, IMAP, IMAPS].map(|p| server.port(p).to_string())));
}

/// Runs a script with the ports of IMAP through a relay and of IMAP over TLS; alice has a quota.
fn with_quota(name: &str, refused: &[&str]) {
    let (home, server) = demo();
    give_quota(&home);
    let trace = Trace::before(server.port(IMAP));
    run(patient("python3")
        .arg(script(name))
        .args([trace.port, server.port(IMAPS)].map(|p| p.to_string())));
    trace.take_with(refused);
}

#[test]
fn imaplib_sorts_threads_and_shares() {
    if have("python3") {
        with_quota(
            "with_imaplib.py",
            &["[BADCHARSET", "[TRYCREATE]", "[NOPERM]"],
        );
    }
}

#[test]
fn imapclient_does_all_it_can() {
    if python_has("imapclient") {
        with_quota("with_imapclient.py", &[]);
    }
}

#[test]
fn imapclient_reads_malformed_mail() {
    if !python_has("imapclient") {
        return;
    }
    let (_home, server) = demo();
    let trace = Trace::before(server.port(IMAP));
    run(patient("python3")
        .arg(script("with_malformed.py"))
        .arg(trace.port.to_string())
        .arg(script("../../fuzz/corpus/mime")));
    trace.take();
}
