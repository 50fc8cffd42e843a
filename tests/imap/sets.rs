//! `$` among numbers (RFC 9051, 9: behind a comma a set may be it; RFC 5182).

use super::common::Imap;
use super::{ALICE, append, server, texts};

fn told(imap: &mut Imap, command: &str) -> String {
    texts(&imap.ok(command)).join("|")
}

/// Seven messages, whose UIDs are one more than their numbers; 2 and 5 are saved.
fn saved(a: &mut Imap) {
    a.ok("CREATE box");
    for _ in 0..8 {
        append(a, "box", "");
    }
    a.ok("SELECT box");
    a.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    a.ok("EXPUNGE");
    a.ok("SEARCH RETURN (SAVE) 2,5");
}

#[test]
fn a_saved_result_stands_behind_a_comma() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    saved(&mut a);
    for (command, answer) in [
        (
            "FETCH 1,$ UID",
            "* 1 FETCH (UID 2)|* 2 FETCH (UID 3)|* 5 FETCH (UID 6)",
        ),
        (
            "FETCH 5:6,$ (UID)",
            "* 2 FETCH (UID 3)|* 5 FETCH (UID 6)|* 6 FETCH (UID 7)",
        ),
        ("UID FETCH 1,$ UID", "* 2 FETCH (UID 3)|* 5 FETCH (UID 6)"),
        ("SEARCH 1,$", "* SEARCH 1 2 5"),
        ("SEARCH NOT 1,$,7", "* SEARCH 3 4 6"),
        ("SEARCH UID 2,$", "* SEARCH 1 2 5"),
        ("UID SEARCH 4,$ UID 3:5", "* SEARCH 3 5"),
        ("SORT (REVERSE ARRIVAL SIZE) UTF-8 7,$", "* SORT 2 5 7"),
    ] {
        assert_eq!(told(&mut a, command), answer, "{command}");
    }
    for bad in ["$,1", "1:$", "$:1", "1,$2", "1,$:3", "1,"] {
        let (_, tagged) = a.command(&format!("FETCH {bad} UID"));
        assert!(tagged.starts_with("BAD"), "{bad}: {tagged}");
    }
    a.ok("UID STORE 8,$ +FLAGS.SILENT (\\Deleted)");
    assert_eq!(told(&mut a, "SEARCH DELETED"), "* SEARCH 2 5 7");
    a.ok("STORE 2,7 -FLAGS.SILENT (\\Deleted)");
    let (lines, tagged) = a.command("UID EXPUNGE 1:5,$");
    assert_eq!(texts(&lines), ["* 5 EXPUNGE"], "{tagged}");
    // What is gone is no longer in it.
    assert_eq!(told(&mut a, "SEARCH 1,$"), "* SEARCH 1 2");
    let (_, tagged) = a.command("COPY 6,$ Archive");
    assert!(
        tagged.starts_with("OK [COPYUID ") && tagged.contains(" 3,8 1:2]"),
        "{tagged}"
    );
}

/// RFC 5267, 4.3: it means what it meant when the search came.
#[test]
fn a_result_that_is_kept_up_to_date_knows_it() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    saved(&mut a);
    a.send(b"u SEARCH RETURN (UPDATE ALL) 1,$ FLAGGED\r\n");
    assert!(a.until("u").1.starts_with("OK"));
    a.ok("SEARCH RETURN (SAVE) 7");
    let lines = a.ok("STORE 1:* +FLAGS.SILENT (\\Flagged)");
    assert_eq!(texts(&lines), ["* ESEARCH (TAG \"u\") ADDTO (0 1:2,5)"]);
}
