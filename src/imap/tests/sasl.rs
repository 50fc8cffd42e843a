//! AUTHENTICATE with mechanisms that have more than one step.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::auth::sasl::Offered;

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

fn with_scram() -> (Session, Instant) {
    let now = Instant::now();
    let mut session = Session::new(
        Settings {
            offered: Offered::ALL,
            ..settings(true)
        },
        now,
    );
    drain(&mut session, now);
    (session, now)
}

/// Up to the server's last message.
fn proved(session: &mut Session, now: Instant, user: &str) -> String {
    let first = b64(&format!("n,,n={user},r=client"));
    let server_first = b64("r=clientserver,s=AAAAAAAAAAAAAAAAAAAAAA==,i=4096");
    assert_eq!(
        say(
            session,
            now,
            &format!("a AUTHENTICATE SCRAM-SHA-256 {first}\r\n")
        ),
        format!("!lookup {user}\n+ {server_first}\n")
    );
    let last = b64("c=biws,r=clientserver,p=AAAA");
    say(session, now, &format!("{last}\r\n"))
}

#[test]
fn scram_ends_with_the_servers_proof_and_an_empty_answer() {
    let (mut s, now) = with_scram();
    let log = proved(&mut s, now, "right");
    assert!(log.starts_with("!login right\n+ "), "{log}");
    let last = STANDARD.decode(log[15..].trim()).unwrap();
    assert!(last.starts_with(b"v="), "{last:?}");
    assert!(say(&mut s, now, "\r\n").starts_with("a OK [CAPABILITY "));
    assert!(say(&mut s, now, "b NOOP\r\n").contains("!b Noop"));
}

#[test]
fn scram_without_an_initial_response_and_with_wrong_keys() {
    let (mut s, now) = with_scram();
    assert_eq!(say(&mut s, now, "a AUTHENTICATE SCRAM-SHA-256\r\n"), "+ \n");
    let log = say(&mut s, now, &format!("{}\r\n", b64("n,,n=wrong,r=client")));
    assert!(log.starts_with("!lookup wrong\n+ "), "{log}");
    let last = b64("c=biws,r=clientserver,p=AAAA");
    assert_eq!(
        say(&mut s, now, &format!("{last}\r\n")),
        "!login wrong\na NO [AUTHENTICATIONFAILED] Invalid credentials\n"
    );
    assert!(say(&mut s, now, "b SELECT INBOX\r\n").starts_with("b BAD"));
}

#[test]
fn who_gives_up_at_the_last_step_is_not_logged_in() {
    for (last, answer) in [
        ("*", "a BAD Authentication cancelled\n!forget\n"),
        ("eA==", "a BAD Malformed credentials\n!forget\n"),
        ("?", "a BAD The response is not base64\n!forget\n"),
    ] {
        let (mut s, now) = with_scram();
        proved(&mut s, now, "right");
        let log = say(&mut s, now, &format!("{last}\r\n"));
        let mut lines: Vec<_> = log.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<_> = answer.lines().collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
        assert!(say(&mut s, now, "b SELECT INBOX\r\n").starts_with("b BAD"));
    }
}

/// RFC 7628, 4.2, as far as it is the server's.
#[test]
fn a_refused_token_is_told_why_before_the_answer() {
    let (mut s, now) = with_scram();
    let first = b64("n,a=user@example.com,\x01auth=Bearer wrong\x01\x01");
    let log = say(
        &mut s,
        now,
        &format!("a AUTHENTICATE OAUTHBEARER {first}\r\n"),
    );
    let why = b64("{\"status\":\"invalid_token\"}");
    assert_eq!(
        log,
        format!("!login user@example.comuser@example.com\n+ {why}\n")
    );
    assert_eq!(
        say(&mut s, now, "AQ==\r\n"),
        "a NO [AUTHENTICATIONFAILED] Invalid credentials\n"
    );
    let first = b64("n,a=user@example.com,\x01auth=Bearer right\x01\x01");
    let log = say(
        &mut s,
        now,
        &format!("b AUTHENTICATE OAUTHBEARER {first}\r\n"),
    );
    assert!(log.contains("\nb OK [CAPABILITY "), "{log}");
}

/// RFC 8437, 3: also with what is pipelined behind it.
#[test]
fn one_connection_serves_one_account_after_another() {
    let (mut s, now) = with_scram();
    assert!(say(&mut s, now, "a LOGIN alice right\r\n").contains("a OK [CAPABILITY "));
    assert!(say(&mut s, now, "b SELECT INBOX\r\n").contains("!b Select"));
    say(&mut s, now, "c ENABLE IMAP4rev2\r\n");
    let plain = b64("\0bob\0right");
    let log = say(
        &mut s,
        now,
        &format!("d UNAUTHENTICATE\r\ne AUTHENTICATE PLAIN {plain}\r\nf FETCH 1 FLAGS\r\n"),
    );
    let lines: Vec<_> = log.lines().collect();
    assert!(lines[0].starts_with("d OK [CAPABILITY "), "{log}");
    assert!(lines[0].contains("AUTH=PLAIN"), "{log}");
    assert_eq!(lines[1..3], ["!forget", "!login bob"], "{log}");
    assert!(lines[3].starts_with("e OK [CAPABILITY "), "{log}");
    assert_eq!(lines[4], "f BAD Select a mailbox first");
    assert!(!s.enabled().rev2);
    assert!(say(&mut s, now, "g UNAUTHENTICATE\r\n").contains("!forget"));
    assert!(say(&mut s, now, "h UNAUTHENTICATE\r\n").starts_with("h BAD"));
    // Who stays a stranger is sent away like one who has just come.
    assert_eq!(s.deadline(), now + Duration::from_secs(60));
}

#[test]
fn compression_begins_once_and_ends_with_the_login() {
    let (mut s, now) = with_scram();
    assert!(say(&mut s, now, "a COMPRESS DEFLATE\r\n").starts_with("a BAD"));
    let log = say(&mut s, now, "b LOGIN alice right\r\n");
    assert!(log.contains(" COMPRESS=DEFLATE"), "{log}");
    assert!(say(&mut s, now, "c COMPRESS LZMA\r\n").starts_with("c BAD"));
    // What does not wait for the answer is not looked at.
    assert_eq!(
        say(&mut s, now, "d COMPRESS deflate\r\ne NOOP\r\n"),
        "d OK DEFLATE active\n!compress\n"
    );
    assert_eq!(
        say(&mut s, now, "f COMPRESS DEFLATE\r\n"),
        "f NO [COMPRESSIONACTIVE] DEFLATE is active already\n"
    );
    assert!(!say(&mut s, now, "g CAPABILITY\r\n").contains("COMPRESS"));
    let log = say(&mut s, now, "h UNAUTHENTICATE\r\n");
    assert!(log.ends_with("!compressed no more\n!forget\n"), "{log}");
    let log = say(&mut s, now, "i LOGIN alice right\r\n");
    assert!(log.contains(" COMPRESS=DEFLATE"), "{log}");
}

/// RFC 7888, 5.
#[test]
fn strangers_send_no_large_literal_unasked() {
    let now = Instant::now();
    let limits = ImapConfig {
        max_literal_before_login: 10_000,
        ..ImapConfig::default()
    };
    let mut s = Session::new(
        Settings {
            limits,
            ..settings(true)
        },
        now,
    );
    let log = drain(&mut s, now);
    assert!(
        log.contains("LITERAL- ") && !log.contains("LITERAL+"),
        "{log}"
    );
    assert!(say(&mut s, now, "a LOGIN {4097}\r\n").starts_with("+ "));
    let name = "x".repeat(4097);
    let log = say(&mut s, now, &format!("{name} right\r\n"));
    assert!(log.contains("a OK [CAPABILITY "), "{log}");
    assert!(
        log.contains("LITERAL+") && !log.contains("LITERAL-"),
        "{log}"
    );
    say(&mut s, now, "b UNAUTHENTICATE\r\n");
    let log = say(
        &mut s,
        now,
        &format!("c LOGIN {{4097+}}\r\n{name} right\r\n"),
    );
    assert!(log.contains("c NO [TOOBIG]"), "{log}");
    let log = say(&mut s, now, "d LOGIN {5+}\r\nalice right\r\n");
    assert!(log.contains("d OK [CAPABILITY "), "{log}");
}

#[test]
fn mechanisms_are_told_where_they_can_be_had() {
    let (mut s, now) = with_scram();
    let log = say(&mut s, now, "a CAPABILITY\r\n");
    let all = "AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=OAUTHBEARER AUTH=PLAIN AUTH=LOGIN";
    assert!(log.contains(all), "{log}");
    // On a connection in the clear nothing is there to bind to.
    let mut s = Session::new(
        Settings {
            clear_login: true,
            offered: Offered::ALL,
            ..settings(false)
        },
        now,
    );
    let log = drain(&mut s, now);
    assert!(log.contains("AUTH=SCRAM-SHA-256 "), "{log}");
    assert!(!log.contains("PLUS"), "{log}");
    assert_eq!(
        say(&mut s, now, "a AUTHENTICATE SCRAM-SHA-256-PLUS\r\n"),
        "a NO [CANNOT] Unknown authentication mechanism\n"
    );
}
