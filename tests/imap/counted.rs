//! What is counted of commands.

use super::{ALICE, server};
use crate::common::{IMAP, Imap};

#[test]
fn logins_and_idle_are_counted_when_they_are_answered() {
    let (_home, server) = server();
    let mut a = Imap::connect(server.port(IMAP)).expect("IMAP");
    let _ = a.command(&format!("LOGIN {ALICE} wrong"));
    let mut b = server.imap(ALICE);
    b.ok("SELECT INBOX");
    b.send(b"i IDLE\r\nDONE\r\n");
    b.until("i");
    let metrics = server.http_get("/metrics").expect("metrics");
    for (command, result) in [
        ("login", "no"),
        ("login", "ok"),
        ("idle", "ok"),
        ("select", "ok"),
    ] {
        let line =
            format!("posthorn_imap_commands_total{{command=\"{command}\",result=\"{result}\"}} 1");
        assert!(metrics.contains(&line), "{line}");
    }
}
