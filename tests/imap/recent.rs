//! \Recent, of which nothing is kept (RFC 3501, 2.3.2).

use super::common::{Imap, Server, free_base};
use super::{ALICE, append, texts};

fn told(imap: &mut Imap, command: &str) -> String {
    let lines = imap.ok(command);
    let recent = texts(&lines).into_iter().find(|l| l.contains("RECENT"));
    recent.expect("RECENT").to_owned()
}

#[test]
fn after_a_restart_what_nobody_can_have_seen_is_recent() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let base = free_base();
    let server = Server::start_at(&dir, base, &[]);
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    a.ok("CREATE empty");
    for _ in 0..70 {
        append(&mut a, "box", "");
    }
    assert_eq!(
        told(&mut a, "STATUS box (RECENT)"),
        "* STATUS box (RECENT 70)"
    );
    assert_eq!(told(&mut a, "SELECT box"), "* 70 RECENT");
    assert_eq!(
        told(&mut a, "STATUS box (RECENT)"),
        "* STATUS box (RECENT 0)"
    );
    a.ok("STORE 20,66 +FLAGS.SILENT (\\Seen)");
    a.ok("UNSELECT");
    append(&mut a, "box", "");
    drop(a);
    server.stop();

    let server = Server::start_at(&dir, base, &[]);
    let mut a = server.imap(ALICE);
    for (name, count) in [("box", 5), ("empty", 0)] {
        let status = told(&mut a, &format!("STATUS {name} (RECENT)"));
        assert_eq!(status, format!("* STATUS {name} (RECENT {count})"));
    }
    for _ in 0..2 {
        assert_eq!(told(&mut a, "EXAMINE box"), "* 5 RECENT");
    }
    assert_eq!(told(&mut a, "SELECT box"), "* 5 RECENT");
    assert_eq!(texts(&a.ok("SEARCH RECENT")), ["* SEARCH 67 68 69 70 71"]);
    // Told once, and of what comes in to the first who hears of it.
    let mut b = server.imap(ALICE);
    assert_eq!(told(&mut b, "SELECT box"), "* 0 RECENT");
    append(&mut b, "INBOX", "");
    append(&mut a, "box", "");
    assert_eq!(told(&mut b, "NOOP"), "* 0 RECENT");
    assert_eq!(
        texts(&a.ok("SEARCH RECENT")),
        ["* SEARCH 67 68 69 70 71 72"]
    );
}
