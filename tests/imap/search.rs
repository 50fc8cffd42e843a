//! What a SEARCH leaves behind, and how it ends when nobody listens any more.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::common::{Imap, PATIENCE};
use super::{ALICE, append, refused, server, texts};

#[test]
fn a_saved_result_changes_only_as_the_rfc_says() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    for _ in 0..3 {
        append(&mut a, "box", "");
    }
    a.ok("SELECT box");
    let saved = |a: &mut Imap| texts(&a.ok("UID SEARCH $")).join("");
    a.ok("SEARCH RETURN (SAVE) 1:2");
    // RFC 5182, 2.1: neither BAD nor a NO without SAVE touches it.
    let (_, tagged) = a.command("SEARCH RETURN (SAVE) BOGUS");
    assert!(tagged.starts_with("BAD"), "{tagged}");
    assert_eq!(saved(&mut a), "* SEARCH 1 2");
    refused(
        &mut a,
        "SEARCH CHARSET KOI8-R ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    refused(
        &mut a,
        "SEARCH RETURN (ALL) CHARSET KOI8-R ALL",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    assert_eq!(saved(&mut a), "* SEARCH 1 2");
    // A NO with SAVE empties it.
    refused(
        &mut a,
        "UID SEARCH RETURN (MIN SAVE) CHARSET KOI8-R TEXT x",
        "BADCHARSET (US-ASCII UTF-8)",
    );
    assert_eq!(saved(&mut a), "* SEARCH");
}

/// The number of IMAP connections in this state, by the server's own count.
fn connections(server: &super::Server, state: &str) -> u32 {
    let metrics = server.http_get("/metrics").expect("metrics");
    let of = format!("posthorn_connections{{protocol=\"imap\",state=\"{state}\"}}");
    let line = metrics.lines().find(|l| l.starts_with(&of));
    let line = line.unwrap_or_else(|| panic!("no sessions in state {state}"));
    line.rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// A mailbox in which a search for a text takes long.
fn heavy(a: &mut Imap) {
    a.ok("CREATE box");
    let mut mail = b"Subject: large\r\n\r\n".to_vec();
    mail.extend_from_slice(&b"word word word word word word word word\r\n".repeat(5_000));
    let mut command = format!("x APPEND box {{{}+}}\r\n", mail.len()).into_bytes();
    command.extend_from_slice(&mail);
    command.extend_from_slice(b"\r\n");
    a.send(&command);
    assert!(a.until("x").1.starts_with("OK"));
    a.ok("SELECT box");
    for _ in 0..9 {
        a.ok("COPY 1:* box");
        a.ok("NOOP");
    }
}

#[test]
fn a_search_ends_when_its_client_is_gone() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    heavy(&mut a);
    let began = Instant::now();
    assert_eq!(texts(&a.ok("SEARCH TEXT needle")), ["* SEARCH"]);
    let whole = began.elapsed();

    // One that only ends its own side is answered to the end.
    let mut half = server.imap(ALICE);
    half.ok("SELECT box");
    half.send(b"s SEARCH TEXT needle\r\nl LOGOUT\r\n");
    half.stream
        .get_ref()
        .shutdown(Shutdown::Write)
        .expect("shutdown");
    assert!(half.until("s").1.starts_with("OK"));
    assert!(half.until("l").1.starts_with("OK"));

    a.ok("UNSELECT");
    for _ in 0..4 {
        let mut gone = server.imap(ALICE);
        gone.ok("SELECT box");
        gone.send(b"s SEARCH TEXT needle\r\nt SEARCH TEXT needle\r\nu SEARCH TEXT needle\r\n");
        std::thread::sleep(Duration::from_millis(20));
        drop(gone);
    }
    let began = Instant::now();
    while connections(&server, "selected") > 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Twelve searches were asked for.
    assert!(began.elapsed() < whole * 3, "{whole:?}");
}

/// Also where all of the time goes into a single message.
#[test]
fn a_search_of_one_large_message_ends_when_its_client_is_gone() {
    let (_home, server) = server();
    let mut a = server.imap(ALICE);
    a.ok("CREATE box");
    let mut mail = b"Subject: large\r\n\r\n".to_vec();
    mail.extend_from_slice(&b"word word word word word word word word\r\n".repeat(50_000));
    let mut command = format!("x APPEND box {{{}+}}\r\n", mail.len()).into_bytes();
    command.extend_from_slice(&mail);
    command.extend_from_slice(b"\r\n");
    a.send(&command);
    assert!(a.until("x").1.starts_with("OK"));
    a.ok("SELECT box");
    let keys: Vec<String> = (0..500).map(|n| format!("NOT TEXT n{n}")).collect();
    let search = format!("SEARCH {}", keys.join(" "));
    let began = Instant::now();
    // Before it there may be words of progress.
    assert_eq!(texts(&a.ok(&search)).last(), Some(&"* SEARCH 1"));
    let whole = began.elapsed();
    a.ok("UNSELECT");
    for _ in 0..4 {
        let mut gone = server.imap(ALICE);
        gone.ok("SELECT box");
        gone.send(format!("s {search}\r\nt {search}\r\n").as_bytes());
        std::thread::sleep(Duration::from_millis(20));
        drop(gone);
    }
    let began = Instant::now();
    while connections(&server, "selected") > 0 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() < whole, "{whole:?}");
}
