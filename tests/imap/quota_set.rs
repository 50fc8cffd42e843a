//! RFC 9208, 4.1.3: whoever administers the server sets limits, and nobody else.

use super::answers;
use super::common::serve::{AUTH, Serving, configuration};
use super::common::{IMAP, Imap, PASSWORD};

const ROOT: &str = "bob@posthorn.test";

fn login(server: &Serving, user: &str) -> Imap {
    let mut imap = Imap::connect(server.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN {user}@posthorn.test {PASSWORD}"));
    imap
}

#[test]
fn administrators_set_limits() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start_with(home.path(), |base| {
        configuration(base, "data", AUTH).replace(
            "[http]",
            "administrators = [\"alice@posthorn.test\"]\n[http]",
        )
    });
    let (mut a, mut b) = (login(&server, "alice"), login(&server, "bob"));
    let lines = a.ok("CAPABILITY");
    assert!(lines[0].text.contains(" QUOTASET "), "{lines:?}");
    // The example of 4.1.3.
    answers(
        &mut a,
        &format!("SETQUOTA {ROOT} (STORAGE 111 MESSAGE 1000)"),
        &[&format!("* QUOTA {ROOT} (STORAGE 0 111 MESSAGE 0 1000)")],
        "OK",
    );
    let told = format!("* QUOTA {ROOT} (STORAGE 0 111 MESSAGE 0 1000)");
    answers(&mut a, &format!("GETQUOTA {ROOT}"), &[&told], "OK");
    answers(
        &mut b,
        "GETQUOTA \"\"",
        &["* QUOTA \"\" (STORAGE 0 111 MESSAGE 0 1000)"],
        "OK",
    );
    let told = format!("* QUOTA {ROOT} (STORAGE 0 510)");
    answers(
        &mut a,
        &format!("SETQUOTA {ROOT} (STORAGE 510)"),
        &[&told],
        "OK",
    );
    answers(
        &mut a,
        &format!("SETQUOTA {ROOT} (WINE 1)"),
        &[],
        "NO [CANNOT]",
    );
    answers(
        &mut a,
        "SETQUOTA no@posthorn.test (STORAGE 1)",
        &[],
        "NO [NONEXISTENT]",
    );
    answers(&mut a, &format!("GETQUOTA {ROOT}"), &[&told], "OK");
    answers(
        &mut a,
        "SETQUOTA \"\" (MESSAGE 0)",
        &["* QUOTA \"\" (MESSAGE 0 0)"],
        "OK",
    );
    a.send(b"x APPEND INBOX {1+}\r\nx\r\n");
    assert!(a.until("x").1.starts_with("NO [OVERQUOTA]"));
    answers(&mut a, "SETQUOTA \"\" ()", &["* QUOTA \"\" ()"], "OK");

    for command in [
        "SETQUOTA \"\" (STORAGE 999)",
        "SETQUOTA alice@posthorn.test (STORAGE 1)",
        "GETQUOTA alice@posthorn.test",
        "GETQUOTA no@posthorn.test",
    ] {
        answers(&mut b, command, &[], "NO [NOPERM]");
    }
    answers(
        &mut b,
        "GETQUOTA \"\"",
        &["* QUOTA \"\" (STORAGE 0 510)"],
        "OK",
    );
    // Whose mailbox it is says whose quota.
    b.ok("SETACL INBOX alice lr");
    let inbox = "\"Other Users/bob@posthorn.test/INBOX\"";
    let root = format!("* QUOTAROOT {inbox} {ROOT}");
    answers(
        &mut a,
        &format!("GETQUOTAROOT {inbox}"),
        &[&root, &told],
        "OK",
    );
}

#[test]
fn without_administrators_there_is_no_quotaset() {
    let (_home, server) = super::server();
    let mut a = server.imap(super::ALICE);
    let lines = a.ok("CAPABILITY");
    assert!(!lines[0].text.contains("QUOTASET"), "{lines:?}");
    answers(&mut a, "SETQUOTA \"\" (STORAGE 1)", &[], "NO [NOPERM]");
}
