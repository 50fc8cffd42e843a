//! \Seen that reading sets is there for all at once, and hides nothing.

use super::{ALICE, append, server, texts};

#[test]
fn what_one_reads_another_sees_as_read() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    let mut b = server.imap(ALICE);
    let mut idle = server.imap(ALICE);
    a.ok("CREATE box");
    for _ in 0..3 {
        append(&mut a, "box", "");
    }
    for imap in [&mut a, &mut b, &mut idle] {
        imap.ok("SELECT box");
    }
    idle.send(b"i IDLE\r\n");
    assert!(idle.line().expect("idling").text.starts_with('+'));

    // While a reads, b has flagged one and marked another that a does not read.
    b.ok("STORE 2 +FLAGS.SILENT (\\Flagged)");
    b.ok("STORE 3 +FLAGS.SILENT (\\Answered)");
    let lines = a.ok("FETCH 1:2 BODY[TEXT]");
    let told = texts(&lines);
    let of = |n: u32| -> String {
        let head = format!("* {n} FETCH (");
        let lines: Vec<&str> = told
            .iter()
            .filter(|l| l.starts_with(&head))
            .copied()
            .collect();
        lines.join("|")
    };
    assert!(of(1).contains("FLAGS (\\Seen"), "{told:?}");
    assert!(of(2).contains("FLAGS (\\Flagged \\Seen"), "{told:?}");
    assert!(of(3).contains("FLAGS (\\Answered"), "{told:?}");
    assert!(a.ok("NOOP").is_empty());

    let lines = b.ok("NOOP");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(texts(&lines)[0].starts_with("* 1 FETCH (UID 1 FLAGS (\\Seen"));
    assert!(texts(&lines)[1].starts_with("* 2 FETCH (UID 2 FLAGS (\\Flagged \\Seen"));
    let mut seen = 0;
    while seen < 2 {
        let line = idle.line().expect("a line").text;
        seen += usize::from(line.contains("\\Seen"));
    }
    // PEEK and EXAMINE read without a trace.
    a.ok("FETCH 3 BODY.PEEK[]");
    assert!(b.ok("NOOP").is_empty());
    a.ok("EXAMINE box");
    a.ok("FETCH 3 BODY[]");
    assert!(b.ok("NOOP").is_empty());
    assert_eq!(texts(&b.ok("SEARCH UNSEEN")), ["* SEARCH 3"]);
}
