//! What bounds a session: errors, commands that do nothing, time, sizes.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn limits_of_a_session() {
    let long = format!("NOOP {}\r\n", "x".repeat(200));
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            (&long, "500 5.5.2 Line too long"),
            ("NOOP\n", "500 5.5.2 Lines end in CR LF"),
            ("XYZZY\r\n", "500 5.5.1 Command not recognized"),
            ("NO\x01OP\r\n", "500 5.5.2 Control character in a command"),
            ("XYZZY\r\n", "500 5.5.1 Command not recognized"),
            (
                "XYZZY\r\n",
                "500 5.5.1 Command not recognized\n421 4.7.0 Too many errors\n!close",
            ),
        ],
    );
    let again = ("RSET\r\n", "250 2.0.0 Reset");
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            MAIL,
            again,
            MAIL,
            again,
            MAIL,
            again,
            (
                "MAIL FROM:<c@y.test>\r\n",
                "421 4.7.0 Too many messages in one session\n!close",
            ),
        ],
    );
}

#[test]
fn the_clock_ends_it_and_a_stop_lets_a_message_end() {
    let now = Instant::now();
    let mut message = Vec::new();
    let mut session = Session::new(settings(Role::Mx), now);
    drain(&mut session, now, &mut message);
    assert_eq!(session.deadline(), now + Duration::from_secs(300));
    session.input(now + Duration::from_secs(200), b"NOOP\r\n");
    assert_eq!(session.deadline(), now + Duration::from_secs(500));
    session.timeout();
    let log = drain(&mut session, now, &mut message);
    assert!(
        log.contains("421 4.4.2") && log.ends_with("!close\n"),
        "{log}"
    );

    let mut session = Session::new(settings(Role::Mx), now);
    session.input(
        now,
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\nDATA\r\nhalf",
    );
    drain(&mut session, now, &mut message);
    session.shutdown();
    assert_eq!(drain(&mut session, now, &mut message), "");
    session.input(now, b"\r\n.\r\nMAIL FROM:<>\r\n");
    let log = drain(&mut session, now, &mut message).replace("~\n", "");
    assert!(
        log.ends_with("250 2.0.0 kept\n421 4.3.2 Service shutting down\n!close\n"),
        "{log}"
    );
}

#[test]
fn a_loop_is_refused_however_long_the_header_is() {
    let mut roomy = settings(Role::Mx);
    roomy.limits.max_message_bytes = 1 << 20;
    let refused = "554 5.4.6 Too many hops, this message is in a loop";
    let pad = "X-Pad: x\r\n".repeat(40_000);
    let looped = format!("{pad}{}\r\n.\r\n", "Received: a\r\n".repeat(51));
    let hello = HELLO.1.replace("SIZE 100", "SIZE 1048576");
    let chunk = format!(
        "BDAT {}\r\n{}",
        looped.len() - 3,
        &looped[..looped.len() - 3]
    );
    talk(
        roomy,
        &[
            ("EHLO c.test\r\n", &hello),
            MAIL,
            RCPT,
            DATA,
            (&looped, refused),
            MAIL,
            RCPT,
            (&chunk, "250 2.0.0 Chunk received"),
            ("BDAT 0 LAST\r\n", refused),
        ],
    );
}

/// A session behind EHLO, with the limits that a server has.
fn greeted(limits: SmtpConfig, now: Instant) -> Session {
    let mut session = Session::new(
        Settings {
            limits,
            ..settings(Role::Mx)
        },
        now,
    );
    send(&mut session, now, "EHLO c.test\r\n");
    session
}

/// Sends, and tells what came of it.
fn send(session: &mut Session, now: Instant, text: &str) -> String {
    session.input(now, text.as_bytes());
    drain(session, now, &mut Vec::new()).replace("~\n", "")
}

fn limits(max_errors: u32, max_junk_commands: u32) -> SmtpConfig {
    SmtpConfig {
        max_errors,
        max_junk_commands,
        ..SmtpConfig::default()
    }
}

#[test]
fn commands_that_do_nothing_are_errors_when_they_are_many() {
    let now = Instant::now();
    for junk in [
        "NOOP\r\n",
        "RSET\r\n",
        "VRFY x\r\n",
        "HELP\r\n",
        "HELO c.test\r\n",
        "EHLO c.test\r\n",
        "MAIL FROM:<c@y.test> SIZE=99\r\n",
    ] {
        let mut session = greeted(limits(3, 5), now);
        // Five are free, the third after them is the third error.
        let log = send(&mut session, now, &junk.repeat(7));
        assert!(!log.contains("421"), "{junk}: {log}");
        let log = send(&mut session, now, &junk.repeat(1000));
        assert!(
            log.ends_with("421 4.7.0 Too many errors\n!close\n"),
            "{junk}: {log}"
        );
        assert_eq!(log.matches("!close").count(), 1, "{junk}: {log}");
        assert!(log.len() < 500, "{junk}: {log}");
    }
    let mut session = greeted(limits(3, 5), now);
    send(
        &mut session,
        now,
        "MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\n",
    );
    let log = send(&mut session, now, &"BDAT 0\r\n".repeat(1000));
    assert_eq!(log.matches("250 2.0.0 Chunk received").count(), 8, "{log}");
    assert!(
        log.ends_with("421 4.7.0 Too many errors\n!close\n"),
        "{log}"
    );
}

#[test]
fn a_message_that_was_taken_forgives() {
    let now = Instant::now();
    let mut session = greeted(limits(3, 3), now);
    let message = "MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\nDATA\r\n.\r\n";
    for round in 0..5 {
        let wrong = "XYZZY\r\nRSET\r\nNOOP\r\nNOOP\r\nNOOP\r\n";
        let log = send(&mut session, now, &format!("{wrong}{message}"));
        assert!(log.ends_with("250 2.0.0 kept\n"), "{round}: {log}");
    }
    // A refused one does not.
    let refused = "MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\nDATA\r\n\0\r\n.\r\n";
    let log = send(&mut session, now, &refused.repeat(3));
    assert!(
        log.ends_with("421 4.7.0 Too many errors\n!close\n"),
        "{log}"
    );
}

#[test]
fn unknown_users_of_a_list_do_not_end_its_session() {
    let now = Instant::now();
    // Whichever of four comes first.
    for first in 0..4 {
        let mut session = greeted(limits(5, 5), now);
        let mut group = String::from("MAIL FROM:<list@y.test>\r\n");
        for n in 0..100 {
            let user = if n % 4 == first { "gone" } else { "bob" };
            write!(group, "RCPT TO:<{user}@x.test>\r\n").unwrap();
        }
        let log = send(&mut session, now, &format!("{group}DATA\r\n.\r\n"));
        assert_eq!(log.matches("550 5.1.1").count(), 25, "{log}");
        assert!(log.ends_with("250 2.0.0 kept\n"), "{log}");
    }
    // Who guesses is stopped, with a valid recipient too.
    let mut session = greeted(limits(5, 5), now);
    let guesses = "RCPT TO:<gone@x.test>\r\n".repeat(100);
    let group = format!("MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\n{guesses}");
    let log = send(&mut session, now, &group);
    assert_eq!(log.matches("550 5.1.1").count(), 6, "{log}");
    assert!(
        log.ends_with("421 4.7.0 Too many errors\n!close\n"),
        "{log}"
    );
}

#[test]
fn a_line_must_come_in_time_however_it_comes() {
    let start = Instant::now();
    let after = |secs| start + Duration::from_secs(secs);
    let mut session = greeted(SmtpConfig::default(), start);
    for second in 1..299 {
        session.input(after(second), b"N");
    }
    assert_eq!(session.deadline(), after(300));
    // Nor does a line that is swallowed help.
    session.input(after(299), &[b'N'; 9000]);
    assert_eq!(session.deadline(), after(300));
    session.input(after(299), b"\r\nNO");
    assert_eq!(session.deadline(), after(599));
}

#[test]
fn a_message_must_come_on() {
    let start = Instant::now();
    let after = |secs| start + Duration::from_secs(secs);
    for begin in ["DATA\r\n", "BDAT 5000\r\n"] {
        let mut session = greeted(SmtpConfig::default(), start);
        let group = format!("MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\n{begin}");
        send(&mut session, start, &group);
        for second in 1..299 {
            session.input(after(second), b"x");
        }
        assert_eq!(session.deadline(), after(300), "{begin}");
        session.input(after(299), &[b'x'; 1024]);
        assert_eq!(session.deadline(), after(599), "{begin}");
        session.input(after(400), &[b'x'; 1023]);
        assert_eq!(session.deadline(), after(599), "{begin}");
        session.input(after(500), b"x");
        assert_eq!(session.deadline(), after(800), "{begin}");
    }
    // The end of a message and of a chunk is as good as a line.
    for (begin, end) in [("DATA\r\n", "\r\n.\r\n"), ("BDAT 5\r\n", "12345")] {
        let mut session = greeted(SmtpConfig::default(), start);
        let group = format!("MAIL FROM:<>\r\nRCPT TO:<bob@x.test>\r\n{begin}");
        send(&mut session, start, &group);
        send(&mut session, after(200), end);
        assert_eq!(session.deadline(), after(500), "{begin}");
    }
}
