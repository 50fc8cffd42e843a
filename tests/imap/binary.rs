//! BINARY of parts that can't be decoded (RFC 9051, 6.4.5 and 7.1).

use super::common::Imap;
use super::{ALICE, server, texts};

fn mail(second: &str) -> String {
    format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Transfer-Encoding: x-secret\r\n\r\nabc\r\n\
         --b\r\nContent-Transfer-Encoding: {second}\r\n\r\nQQ==\r\n--b--\r\n"
    )
}

fn put(a: &mut Imap, mail: &str) {
    a.send(format!("x APPEND box {{{}+}}\r\n{mail}\r\n", mail.len()).as_bytes());
    assert!(a.until("x").1.starts_with("OK"));
}

#[test]
fn what_can_not_be_decoded_is_left_out() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("ENABLE IMAP4rev2");
    a.ok("CREATE box");
    for second in ["base64", "x-other", "base64", "base64", "base64"] {
        put(&mut a, &mail(second));
    }
    a.ok("SELECT box");
    let mut unknown = |command: &str| -> Vec<String> {
        let (lines, tagged) = a.command(command);
        assert!(
            tagged.starts_with("NO [UNKNOWN-CTE]"),
            "{command}: {tagged}"
        );
        texts(&lines).into_iter().map(str::to_owned).collect()
    };
    // Nothing is delivered, nothing is seen.
    let nothing: [&str; 0] = [];
    assert_eq!(unknown("FETCH 1 BINARY[1]"), nothing);
    assert_eq!(unknown("FETCH 1 BINARY[1]<0.2>"), nothing);
    assert_eq!(unknown("FETCH 1 BINARY.SIZE[1]"), nothing);
    assert_eq!(
        unknown("FETCH 2 (BINARY[1] BINARY[2] BINARY.SIZE[2])"),
        nothing
    );
    assert_eq!(unknown("UID FETCH 3 BINARY[1]"), ["* 3 FETCH (UID 3)"]);
    assert_eq!(
        unknown("FETCH 4 (BINARY[1] BINARY.PEEK[2] FLAGS)"),
        ["* 4 FETCH (BINARY[2] ~{1} FLAGS ())"]
    );
    // One of them is.
    assert_eq!(
        unknown("FETCH 1:2 (BINARY.SIZE[1] BINARY[1] BINARY[2] UID)"),
        [
            "* 1 FETCH (BINARY[2] ~{1} UID 1 FLAGS (\\Seen))",
            "* 2 FETCH (UID 2)"
        ]
    );
    let body = unknown("FETCH 5 (BINARY[1] BODY[1])");
    assert_eq!(body, ["* 5 FETCH (BODY[1] {3} FLAGS (\\Seen))"]);
    let search = a.ok("SEARCH SEEN");
    assert!(texts(&search)[0].ends_with(" ALL 1,5"), "{search:?}");
}
