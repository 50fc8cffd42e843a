//! Conversations with the session machine: what is sent, and all that must come of it.

mod sasl;

use std::time::{Duration, Instant};

use super::session::{Output, Session, Settings};
use crate::auth::AuthError;
use crate::auth::sasl::{Found, Proof};
use crate::config::ImapConfig;

const BEFORE: &str =
    "CAPABILITY IMAP4rev1 IMAP4rev2 SASL-IR ID ENABLE IDLE LITERAL- STARTTLS LOGINDISABLED";

fn settings(tls: bool) -> Settings {
    Settings {
        hostname: "imap.test".into(),
        limits: ImapConfig {
            max_bad_commands: 3,
            max_literal_before_login: 20,
            heartbeat_secs: 240,
            ..ImapConfig::default()
        },
        tls,
        clear_login: false,
        offered: Default::default(),
    }
}

/// What happens, as text. Work is answered at once: the password is `right`, commands succeed.
fn drain(session: &mut Session, now: Instant) -> String {
    let mut log = String::new();
    while let Some(output) = session.poll() {
        match output {
            Output::Write(bytes) => {
                log.push_str(&String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
            }
            Output::Login(claim) => {
                log.push_str(&format!("!login {}{}\n", claim.authzid, claim.login));
                let right = match claim.proof {
                    Proof::Password(password) => password.expose() == b"right",
                    // The proof itself is tested where it is judged.
                    Proof::Scram { .. } => claim.login == "right",
                    Proof::Token(token) => token.expose() == b"right",
                };
                let result = right.then_some(()).ok_or(AuthError::Invalid);
                session.done_login(now, result);
            }
            Output::Lookup(lookup) => {
                log.push_str(&format!("!lookup {}\n", lookup.login));
                session.done_lookup(now, Ok(Found::nobody()));
            }
            Output::Forget => log.push_str("!forget\n"),
            Output::Compress => log.push_str("!compress\n"),
            Output::EndCompression => log.push_str("!compressed no more\n"),
            Output::Execute(tagged) => {
                let text = format!("{:?}", tagged.command);
                let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
                log.push_str(&format!("!{} {name}\n", tagged.tag));
                session.done_executing(
                    now,
                    name == "Select" || session.state() == crate::telemetry::ImapState::Selected,
                );
            }
            Output::Append(piece) => {
                let mailbox = piece.begin.as_ref().map_or("", |begin| &begin.mailbox);
                log.push_str(&format!("!append? {mailbox}\n"));
                match mailbox {
                    "none" => session.append_refused(now, "NO [TRYCREATE] No such mailbox"),
                    _ => session.append_accepted(now),
                }
            }
            Output::AppendData(data) => log.push_str(&String::from_utf8_lossy(&data)),
            Output::AppendEnd { tag, .. } => {
                log.push_str(&format!("!{tag} stored\n"));
                session.done_executing(now, false);
            }
            Output::AppendAbort => log.push_str("!abort\n"),
            Output::StartTls => {
                log.push_str("!tls\n");
                session.tls_started(now);
            }
            Output::IdleBegin => log.push_str("!idle\n"),
            Output::IdleEnd { tag } => {
                log.push_str(&format!("!{tag} idle ends\n"));
                session.done_executing(now, true);
            }
            Output::Close(why) => log.push_str(&format!("!close {why:?}\n")),
        }
    }
    log
}

fn session(tls: bool) -> (Session, Instant) {
    let now = Instant::now();
    let mut session = Session::new(settings(tls), now);
    drain(&mut session, now);
    (session, now)
}

fn say(session: &mut Session, now: Instant, text: &str) -> String {
    session.input(now, text.as_bytes());
    drain(session, now)
}

fn logged_in() -> (Session, Instant) {
    let (mut session, now) = session(true);
    assert!(say(&mut session, now, "a LOGIN alice right\r\n").contains("a OK [CAPABILITY "));
    (session, now)
}

#[test]
fn greeting_capabilities_and_no_password_in_the_clear() {
    let now = Instant::now();
    let mut s = Session::new(settings(false), now);
    assert_eq!(
        drain(&mut s, now),
        format!("* OK [{BEFORE}] imap.test Posthorn ready\n")
    );
    assert_eq!(
        say(&mut s, now, "a capability\r\n"),
        format!("* {BEFORE}\na OK Capabilities listed\n")
    );
    assert_eq!(
        say(&mut s, now, "b LOGIN alice right\r\n"),
        "b NO [PRIVACYREQUIRED] Use STARTTLS first\n"
    );
    assert_eq!(
        say(&mut s, now, "c AUTHENTICATE PLAIN\r\n"),
        "c NO [PRIVACYREQUIRED] Use STARTTLS first\n"
    );
    assert_eq!(
        say(&mut s, now, "d SELECT INBOX\r\n"),
        "d BAD Log in first\n"
    );
    assert_eq!(say(&mut s, now, "e NOOP\r\n"), "e OK Nothing to do\n");
    // What is pipelined behind STARTTLS is not looked at.
    assert_eq!(
        say(&mut s, now, "f STARTTLS\r\ng NOOP\r\n"),
        "f OK Begin TLS\n!tls\n"
    );
    let after = say(&mut s, now, "h CAPABILITY\r\n");
    assert!(
        after.contains("AUTH=PLAIN AUTH=LOGIN") && !after.contains("STARTTLS"),
        "{after}"
    );
    assert_eq!(
        say(&mut s, now, "i STARTTLS\r\n"),
        "i BAD TLS is not available now\n"
    );
    assert_eq!(
        say(&mut s, now, "j LOGOUT\r\n"),
        "* BYE Logging out\nj OK Goodbye\n!close Logout\n"
    );
}

#[test]
fn logins() {
    let (mut s, now) = session(true);
    assert_eq!(
        say(&mut s, now, "a LOGIN alice wrong\r\n"),
        "!login alice\na NO [AUTHENTICATIONFAILED] Invalid credentials\n"
    );
    assert_eq!(say(&mut s, now, "b AUTHENTICATE PLAIN\r\n"), "+ \n");
    assert_eq!(
        say(&mut s, now, "*\r\n"),
        "b BAD Authentication cancelled\n"
    );
    assert_eq!(
        say(&mut s, now, "c AUTHENTICATE LOGIN\r\n"),
        "+ VXNlcm5hbWU6\n"
    );
    assert_eq!(
        say(&mut s, now, "!!\r\n"),
        "c BAD The response is not base64\n"
    );
    assert_eq!(
        say(&mut s, now, "d AUTHENTICATE X\r\n"),
        "d NO [CANNOT] Unknown authentication mechanism\n"
    );
    assert_eq!(
        say(&mut s, now, "e LOGIN {21}\r\n"),
        "e NO [TOOBIG] The literal is too big\n"
    );
    assert_eq!(
        say(&mut s, now, "f APPEND INBOX {5}\r\n"),
        "f NO [TOOBIG] The message is too big\n"
    );
    let ok = say(&mut s, now, "g AUTHENTICATE PLAIN AGFsaWNlAHJpZ2h0\r\n");
    assert!(
        ok.starts_with("!login alice\ng OK [CAPABILITY ") && ok.contains(" IDLE "),
        "{ok}"
    );
    assert_eq!(
        say(&mut s, now, "h LOGIN alice right\r\n"),
        "h BAD Already logged in\n"
    );
    assert_eq!(
        say(&mut s, now, "i FETCH 1 FLAGS\r\n"),
        "i BAD Select a mailbox first\n"
    );
    assert_eq!(
        say(&mut s, now, "j ENABLE FOO IMAP4rev2\r\n"),
        "* ENABLED IMAP4rev2\nj OK Enabled\n"
    );
}

#[test]
fn idle_is_read_as_a_stream() {
    let (mut s, now) = logged_in();
    assert_eq!(
        say(&mut s, now, "a SELECT INBOX\r\nb IDLE\r\n"),
        "!a Select\n+ idling\n!idle\n"
    );
    assert!(s.is_idling());
    for piece in ["d", "O", "n", "E", "\r"] {
        assert_eq!(say(&mut s, now, piece), "");
    }
    assert_eq!(
        say(&mut s, now, "\nc NOOP\r\nd IDLE\r\n"),
        "!b idle ends\n!c Noop\n+ idling\n!idle\n"
    );
    assert_eq!(say(&mut s, now, "NOOP\r\n"), "d BAD DONE was expected\n");
    assert!(!s.is_idling());
    assert_eq!(
        say(&mut s, now, "e IDLE\r\nDONE\r\n"),
        "+ idling\n!idle\n!e idle ends\n"
    );
}

#[test]
fn after_notify_it_listens_between_commands() {
    let (mut s, now) = logged_in();
    assert!(!s.is_listening());
    s.set_notifying(true);
    say(&mut s, now, "a NOOP\r\n");
    assert!(s.is_listening());
    for piece in ["b", " LIST {2}", "\r\n", "\"\"", " %"] {
        say(&mut s, now, piece);
        assert!(!s.is_listening(), "{piece}");
    }
    say(&mut s, now, "\r\n");
    assert!(s.is_listening());
    // It is kept alive as in IDLE, and not sent away.
    let later = now + Duration::from_secs(240);
    assert_eq!(s.deadline(), later);
    s.tick(later);
    assert_eq!(drain(&mut s, later), "* OK Still here\n");
    s.set_notifying(false);
    assert_eq!(s.deadline(), now + Duration::from_secs(35 * 60));
}

#[test]
fn the_clock() {
    let (mut s, now) = session(true);
    assert_eq!(s.deadline(), now + Duration::from_secs(60));
    s.tick(now + Duration::from_secs(59));
    assert_eq!(drain(&mut s, now), "");
    s.tick(now + Duration::from_secs(60));
    assert!(drain(&mut s, now).ends_with("!close Timeout\n"));

    let (mut s, now) = logged_in();
    let at = |minutes: u64| now + Duration::from_secs(minutes * 60);
    assert_eq!(s.deadline(), at(35));
    say(&mut s, at(20), "a IDLE\r\n");
    assert_eq!(s.deadline(), at(24));
    s.tick(at(24));
    assert_eq!(drain(&mut s, at(24)), "* OK Still here\n");
    s.tick(at(28));
    assert_eq!(drain(&mut s, at(28)), "* OK Still here\n");
    say(&mut s, at(29), "DONE\r\n");
    s.tick(at(29 + 35));
    assert!(drain(&mut s, now).starts_with("* BYE Autologout"));
}

#[test]
fn nonsense_ends_it_and_a_good_command_forgives() {
    let (mut s, now) = session(true);
    say(&mut s, now, "a X\r\nb X\r\nc NOOP\r\nd X\r\ne X\r\n");
    assert_eq!(
        say(&mut s, now, "f X\r\ng NOOP\r\n"),
        "f BAD Unknown command\n* BYE Too many bad commands\n!close Nonsense\n"
    );
}

#[test]
fn commands_in_the_wrong_state_end_it_too() {
    let (mut s, now) = session(true);
    assert_eq!(
        say(
            &mut s,
            now,
            "a SELECT INBOX\r\nb FETCH 1 FLAGS\r\nc APPEND x {0+}\r\n\r\nd NOOP\r\n"
        ),
        "a BAD Log in first\nb BAD Log in first\nc BAD Log in first\n\
         * BYE Too many bad commands\n!close Nonsense\n"
    );
    let (mut s, now) = logged_in();
    assert_eq!(
        say(&mut s, now, "a FETCH 1 FLAGS\r\nb LOGIN x y\r\nc NOOP\r\n"),
        "a BAD Select a mailbox first\nb BAD Already logged in\n!c Noop\n"
    );
    assert_eq!(
        say(
            &mut s,
            now,
            "a CLOSE\r\nb STARTTLS\r\nc EXPUNGE\r\nd NOOP\r\n"
        ),
        "a BAD Select a mailbox first\nb BAD TLS is not available now\n\
         c BAD Select a mailbox first\n* BYE Too many bad commands\n!close Nonsense\n"
    );
}

#[test]
fn append() {
    let (mut s, now) = logged_in();
    assert_eq!(
        say(&mut s, now, "a APPEND box {4}\r\n"),
        "!append? box\n+ Ready for the message\n"
    );
    assert_eq!(
        say(&mut s, now, "\r\nhi\r\nb NOOP\r\n"),
        "\r\nhi!a stored\n!b Noop\n"
    );
    assert_eq!(
        say(&mut s, now, "c APPEND none {3+}\r\nx Y\r\nd NOOP\r\n"),
        "!append? none\nc NO [TRYCREATE] No such mailbox\n!d Noop\n"
    );
    assert_eq!(
        say(&mut s, now, "e APPEND box {1+}\r\nx junk\r\nf NOOP\r\n"),
        "!append? box\nx!abort\ne BAD APPEND mailbox, or REPLACE number mailbox, and then [(flags)] [\"date\"] {size}\n!f Noop\n"
    );
}

#[test]
fn every_tagged_answer_is_counted_by_its_command() {
    use crate::telemetry::ImapResult::{Bad, No, Ok};
    let (mut s, now) = session(true);
    for (input, expected) in [
        ("a CAPABILITY\r\n", vec![("capability", Ok)]),
        ("b LOGIN alice wrong\r\n", vec![("login", No)]),
        ("c NONSENSE\r\n", vec![("invalid", Bad)]),
        ("d LOGIN {21}\r\n", vec![("invalid", No)]),
        ("e AUTHENTICATE X\r\n", vec![("authenticate", No)]),
        ("f AUTHENTICATE LOGIN\r\n", vec![]),
        ("*\r\n", vec![("authenticate", Bad)]),
        ("g SELECT INBOX\r\n", vec![("select", Bad)]),
        ("h AUTHENTICATE PLAIN\r\n", vec![]),
        ("AGFsaWNlAHJpZ2h0\r\n", vec![("authenticate", Ok)]),
        ("i FETCH 1 FLAGS\r\n", vec![("fetch", Bad)]),
        ("j IDLE\r\n", vec![]),
        ("NOOP\r\n", vec![("idle", Bad)]),
        ("k APPEND none {5}\r\n", vec![("append", No)]),
        ("l NOOP\r\n", vec![]),
        (
            "m ENABLE X\r\nn LOGOUT\r\n",
            vec![("enable", Ok), ("logout", Ok)],
        ),
    ] {
        say(&mut s, now, input);
        assert_eq!(s.take_answered(), expected, "{input}");
    }
}
