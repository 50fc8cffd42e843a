//! Conversations with the session machine, as tables: `C:` what the client sends, `S:` what it
//! must get, `!` what happens besides.

mod limits;
mod submission;

use std::time::Instant;

use proptest::prelude::*;

use super::session::{Admission, Answer, Output, PartError, Role, Session, Settings, Work};
use crate::auth::AuthError;
use crate::auth::sasl::{Found, Proof};
use crate::config::SmtpConfig;
use crate::store::Resolution;
use crate::types::AccountId;

fn settings(role: Role) -> Settings {
    Settings {
        role,
        hostname: "mx.test".into(),
        limits: SmtpConfig {
            max_message_bytes: 100,
            max_recipients: 3,
            max_errors: 6,
            max_transactions: 3,
            max_line_bytes: 200,
            max_data_line_bytes: 60,
            ..SmtpConfig::default()
        },
        tls: false,
        can_start_tls: true,
        clear_login: false,
        offered: Default::default(),
    }
}

/// alice and bob are here, x.test is ours, the password is `right`.
fn answer(work: Work, log: &mut String) -> Answer {
    match work {
        Work::Resolve(super::parser::Target::Postmaster, _) => {
            Answer::Resolved(Resolution::Accounts(vec![AccountId(1)]))
        }
        Work::Resolve(super::parser::Target::Address(address), expected) => {
            // dora is full, tight nearly.
            let room = match address.local() {
                "tight" => 3000,
                "dora" => 0,
                _ => u64::MAX,
            };
            if room < expected.least {
                return Answer::OverQuota;
            }
            if room < expected.most {
                return Answer::Tight(Resolution::Accounts(vec![AccountId(3)]));
            }
            Answer::Resolved(match (address.local(), address.domain().as_str()) {
                ("alice", "x.test") => Resolution::Accounts(vec![AccountId(1)]),
                ("bob", "x.test") => Resolution::Accounts(vec![AccountId(2)]),
                ("dora", "x.test") => Resolution::Accounts(vec![AccountId(4)]),
                ("lost", "x.test") => Resolution::Unsure,
                (_, "x.test") => Resolution::NoUser,
                _ => Resolution::NotLocal,
            })
        }
        Work::Login(claim) => Answer::LoggedIn(match claim.proof {
            Proof::Password(password) if password.expose() == b"right" => Ok(AccountId(1)),
            Proof::Password(password) if password.expose() == b"much" => Err(AuthError::Throttled),
            // The proof itself is tested where it is judged.
            Proof::Scram { .. } if claim.login == "right" => Ok(AccountId(1)),
            _ => Err(AuthError::Invalid),
        }),
        Work::Lookup(lookup) if lookup.login == "much" => Answer::Found(Err(AuthError::Throttled)),
        Work::Lookup(_) => Answer::Found(Ok(Found::nobody())),
        Work::Admit { size: 99, .. } => Answer::Admitted(Admission::NoRoom),
        Work::Admit { account: None, .. } => Answer::Admitted(Admission::Yes),
        Work::Admit { from, .. } => Answer::Admitted(match from {
            Some(from) if from.local() == "removed" => Admission::NoAccount,
            Some(from) if from.local() != "alice" => Admission::NotYours,
            _ => Admission::Yes,
        }),
        Work::OpenUrl(url) => Answer::Part(match url.as_str() {
            "imap://mine" => Ok(Some(b"of mine".to_vec())),
            "imap://slow" => Err(PartError::Temporary),
            "imap://large" => Ok(Some(vec![b'x'; 50])),
            _ => Err(PartError::Refused),
        }),
        Work::ReadUrl => {
            log.push_str("!read on\n");
            Answer::Part(Ok(None))
        }
        Work::Deliver(envelope) => {
            let to: Vec<_> = envelope
                .recipients
                .iter()
                .map(|r| r.given.as_str())
                .collect();
            log.push_str(&format!("!deliver {} {}\n", to.join(","), envelope.size));
            Answer::Delivered(Ok("kept".into()))
        }
    }
}

/// Runs what the machine wants; everything that happens, as text. `~` parts writes.
fn drain(session: &mut Session, now: Instant, message: &mut Vec<u8>) -> String {
    let mut log = String::new();
    while let Some(output) = session.poll() {
        match output {
            Output::Write(bytes) => {
                log.push_str(&String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
                log.push_str("~\n");
            }
            Output::Message(bytes) => message.extend_from_slice(&bytes),
            Output::Discard => message.clear(),
            Output::Refused(_) => {}
            Output::Work(work) => {
                if matches!(work, Work::Deliver(_)) {
                    log.push_str(&format!(
                        "!message {:?}\n",
                        String::from_utf8_lossy(message)
                    ));
                    message.clear();
                }
                let answer = answer(work, &mut log);
                session.answer(now, answer);
            }
            Output::StartTls => {
                log.push_str("!tls\n");
                session.tls_started(now);
            }
            Output::Close => log.push_str("!close\n"),
        }
    }
    log
}

/// Each step: what is sent at once, and all that must come of it (writes parted by `~` lines,
/// which the table leaves out where there is one).
fn talk(settings: Settings, steps: &[(&str, &str)]) {
    let now = Instant::now();
    let mut session = Session::new(settings, now);
    let mut message = Vec::new();
    let greeting = drain(&mut session, now, &mut message);
    assert_eq!(greeting, "220 mx.test ESMTP Posthorn\n~\n");
    for (send, expected) in steps {
        if !session.is_busy() {
            session.input(now, send.as_bytes());
        }
        let got = drain(&mut session, now, &mut message).replace("~\n", "");
        assert_eq!(got.trim_end(), *expected, "after {send:?}");
    }
    assert!(message.is_empty(), "left in the spool: {message:?}");
}

const HELLO: (&str, &str) = (
    "EHLO c.test\r\n",
    "250-mx.test\n250-PIPELINING\n250-SIZE 100\n250-8BITMIME\n250-SMTPUTF8\n\
     250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250 STARTTLS",
);
const MAIL: (&str, &str) = ("MAIL FROM:<c@y.test>\r\n", "250 2.1.0 Sender OK");
const RCPT: (&str, &str) = ("RCPT TO:<alice@x.test>\r\n", "250 2.1.5 Recipient OK");
const DATA: (&str, &str) = ("DATA\r\n", "354 Send the message, end with <CRLF>.<CRLF>");

#[test]
fn a_whole_transaction_and_what_is_out_of_order() {
    talk(
        settings(Role::Mx),
        &[
            ("MAIL FROM:<c@y.test>\r\n", "503 5.5.1 EHLO first"),
            HELLO,
            ("RCPT TO:<alice@x.test>\r\n", "503 5.5.1 MAIL first"),
            ("DATA\r\n", "503 5.5.1 No valid recipients, or BDAT began"),
            MAIL,
            ("MAIL FROM:<c@y.test>\r\n", "503 5.5.1 Nested MAIL command"),
            RCPT,
            DATA,
            (
                "Subject: x\r\n\r\n..d\r\n.\r\n",
                "!message \"Subject: x\\r\\n\\r\\n.d\\r\\n\"\n!deliver alice@x.test 18\n250 2.0.0 kept",
            ),
            MAIL,
            ("RSET\r\n", "250 2.0.0 Reset"),
            ("VRFY alice\r\n", "252 2.5.2 Send mail, it will be tried"),
            ("QUIT\r\n", "221 2.0.0 Goodbye\n!close"),
        ],
    );
}

#[test]
fn recipients_are_refused_by_their_reason() {
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            MAIL,
            ("RCPT TO:<nobody@x.test>\r\n", "550 5.1.1 No such user here"),
            ("RCPT TO:<lost@x.test>\r\n", "451 4.3.0 Try again later"),
            ("RCPT TO:<a@z.test>\r\n", "550 5.7.1 Relaying denied"),
            RCPT,
            ("RCPT TO:<Postmaster>\r\n", "250 2.1.5 Recipient OK"),
            ("RCPT TO:<bob@x.test>\r\n", "250 2.1.5 Recipient OK"),
            ("RCPT TO:<bob@x.test>\r\n", "452 4.5.3 Too many recipients"),
            DATA,
            (
                ".\r\n",
                "!message \"\"\n!deliver alice@x.test,postmaster,bob@x.test 0\n250 2.0.0 kept",
            ),
        ],
    );
}

#[test]
fn a_pipelined_group_is_answered_in_one_write() {
    let now = Instant::now();
    let mut session = Session::new(settings(Role::Mx), now);
    let mut message = Vec::new();
    drain(&mut session, now, &mut message);
    session.input(now, b"EHLO c.test\r\n");
    drain(&mut session, now, &mut message);
    session.input(now, b"RSET\r\nNOOP\r\nNOOP\r\nVRFY x\r\n");
    let log = drain(&mut session, now, &mut message);
    assert_eq!(log.matches('~').count(), 1, "{log}");
    session.input(
        now,
        b"MAIL FROM:<>\r\nRCPT TO:<alice@x.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
    );
    let log = drain(&mut session, now, &mut message);
    // What belongs to the group leaves before the message is stored, the rest after it.
    assert_eq!(log.matches('~').count(), 2, "{log}");
    assert_eq!(
        log.replace("~\n", ""),
        "250 2.1.0 Sender OK\n250 2.1.5 Recipient OK\n354 Send the message, end with <CRLF>.<CRLF>\n\
         !message \"x\\r\\n\"\n!deliver alice@x.test 3\n250 2.0.0 kept\n221 2.0.0 Goodbye\n!close\n"
    );
}

#[test]
fn messages_are_refused_and_leave_nothing_behind() {
    let long = format!("{}\r\n.\r\n", "x".repeat(61));
    let large = format!("{}.\r\n", "0123456789\r\n".repeat(9));
    let steps =
        |extra: &[(&'static str, &'static str)]| [&[HELLO, MAIL, RCPT, DATA], extra].concat();
    talk(
        settings(Role::Mx),
        &steps(&[
            ("a\nb\r\n.\r\n", "550 5.6.11 Bare CR or LF in the message"),
            MAIL,
        ]),
    );
    talk(
        settings(Role::Mx),
        &steps(&[("a\rb\r\n.\r\n", "550 5.6.11 Bare CR or LF in the message")]),
    );
    talk(
        settings(Role::Mx),
        &steps(&[("a\0b\r\n.\r\n", "550 5.6.0 NUL byte in the message")]),
    );
    let mut repairing = settings(Role::Mx);
    repairing.limits.bare_line_endings = crate::config::BareLineEndings::Repair;
    talk(
        repairing,
        &steps(&[(
            "a\nb\r\n.\r\n",
            "!message \"a\\r\\nb\\r\\n\"\n!deliver alice@x.test 6\n250 2.0.0 kept",
        )]),
    );
    for (text, reply) in [
        (long.as_str(), "550 5.6.0 A line of the message is too long"),
        (large.as_str(), "552 5.3.4 Message too large"),
    ] {
        talk(
            settings(Role::Mx),
            &[HELLO, MAIL, RCPT, DATA, (text, reply), MAIL],
        );
    }
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            (
                "MAIL FROM:<c@y.test> SIZE=101\r\n",
                "552 5.3.4 Message too large",
            ),
            (
                "MAIL FROM:<c@y.test> SIZE=99\r\n",
                "452 4.3.1 Insufficient system storage",
            ),
            ("MAIL FROM:<c@y.test> SIZE=100\r\n", "250 2.1.0 Sender OK"),
        ],
    );
}

#[test]
fn chunks() {
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            (
                "BDAT 3\r\nabcNOOP\r\n",
                "503 5.5.1 No valid recipients\n250 2.0.0 OK",
            ),
            MAIL,
            RCPT,
            ("BDAT 4\r\na\r\n.", "250 2.0.0 Chunk received"),
            ("DATA\r\n", "503 5.5.1 No valid recipients, or BDAT began"),
            (
                "RCPT TO:<bob@x.test>\r\n",
                "503 5.5.1 The message is coming already",
            ),
            (
                "BDAT 2 LAST\r\n\r\n",
                "!message \"a\\r\\n.\\r\\n\"\n!deliver alice@x.test 6\n250 2.0.0 kept",
            ),
            MAIL,
            RCPT,
            ("BDAT 3\r\nabc", "250 2.0.0 Chunk received"),
            ("RSET\r\n", "250 2.0.0 Reset"),
            MAIL,
            RCPT,
            (
                "BDAT 0 LAST\r\n",
                "!message \"\"\n!deliver alice@x.test 0\n250 2.0.0 kept",
            ),
        ],
    );
    let large = format!("BDAT 101\r\n{}", "y".repeat(101));
    let mut settings = settings(Role::Mx);
    settings.limits.max_data_line_bytes = 1000;
    talk(
        settings,
        &[
            HELLO,
            MAIL,
            RCPT,
            (&large, "552 5.3.4 Message too large"),
            ("BDAT 1 LAST\r\nz", "503 5.5.1 No valid recipients"),
            (
                "BDAT 201\r\n",
                "552 5.3.4 Message too large, closing connection\n!close",
            ),
        ],
    );
}

#[test]
fn bytes_of_a_chunk_never_become_commands() {
    // How long it is can't be told, so where the next command begins can't either.
    let closing = "501 5.5.4 BDAT needs a size\n!close";
    for line in ["BDAT 6x\r\nRSET\r\n", "bdat\r\nRSET\r\n"] {
        talk(settings(Role::Mx), &[HELLO, MAIL, RCPT, (line, closing)]);
    }
    let long = format!("BDAT 5 {}\r\nRSET\r\n", "x".repeat(200));
    for (line, closing) in [
        ("BDAT 5\nNOOP\r\n", "500 5.5.2 Lines end in CR LF\n!close"),
        (
            "BDAT 5\t\x01\r\nNOOP\r\n",
            "500 5.5.2 Control character in a command\n!close",
        ),
        (&long, "500 5.5.2 Line too long\n!close"),
    ] {
        talk(settings(Role::Mx), &[HELLO, MAIL, RCPT, (line, closing)]);
    }
}

#[test]
fn a_browser_is_sent_away() {
    for method in ["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"] {
        let request = format!("{method} / HTTP/1.1\r\nEHLO evil\r\nMAIL FROM:<>\r\n");
        let away = "421 4.7.0 This is not HTTP\n!close";
        talk(settings(Role::Mx), &[(&request, away)]);
    }
}

#[test]
fn nothing_in_the_clear_outlives_starttls() {
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            MAIL,
            RCPT,
            (
                "BDAT 4\r\nevilSTARTTLS\r\n",
                "250 2.0.0 Chunk received\n220 2.0.0 Ready to start TLS\n!tls",
            ),
            ("BDAT 0 LAST\r\n", "503 5.5.1 No valid recipients"),
        ],
    );
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            MAIL,
            (
                "STARTTLS\r\nRSET\r\nMAIL FROM:<evil@y.test>\r\n",
                "220 2.0.0 Ready to start TLS\n!tls",
            ),
            ("MAIL FROM:<c@y.test>\r\n", "503 5.5.1 EHLO first"),
            (
                "EHLO c.test\r\n",
                HELLO
                    .1
                    .replace("250-CHUNKING\n250 STARTTLS", "250 CHUNKING")
                    .leak(),
            ),
            ("STARTTLS\r\n", "503 5.5.1 TLS is not available now"),
        ],
    );
}

#[test]
fn addresses_beyond_ascii_need_smtputf8() {
    let needed = "Non-ASCII addresses need SMTPUTF8";
    let (sender, recipient) = (format!("550 5.6.7 {needed}"), format!("553 5.6.7 {needed}"));
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            ("MAIL FROM:<c@bücher.test>\r\n", &sender),
            MAIL,
            ("RCPT TO:<grün@x.test>\r\n", &recipient),
            ("RCPT TO:<alice@bücher.test>\r\n", &recipient),
            RCPT,
            ("RSET\r\n", "250 2.0.0 Reset"),
            (
                "MAIL FROM:<grün@bücher.test> SMTPUTF8\r\n",
                "250 2.1.0 Sender OK",
            ),
            ("RCPT TO:<grün@x.test>\r\n", "550 5.1.1 No such user here"),
        ],
    );
}

#[test]
fn parameters_are_taken_after_helo_too() {
    // Nothing was announced (RFC 5321, 4.1.1.11 would allow 555), but devices that say HELO
    // and mean EHLO are many, and no parameter does harm.
    talk(
        settings(Role::Mx),
        &[
            ("HELO c.test\r\n", "250 mx.test"),
            (
                "MAIL FROM:<c@y.test> SIZE=7 BODY=8BITMIME\r\n",
                "250 2.1.0 Sender OK",
            ),
            (
                "RCPT TO:<alice@x.test> SIZE=7\r\n",
                "555 5.5.4 Parameter not recognized",
            ),
        ],
    );
}

proptest! {
    #[test]
    fn any_split_of_a_dialogue_gives_the_same(cuts in prop::collection::vec(1..40usize, 1..40)) {
        let dialogue = b"EHLO c.test\r\nMAIL FROM:<c@y.test> SIZE=5\r\nRCPT TO:<alice@x.test>\r\n\
            RCPT TO:<no@x.test>\r\nDATA\r\n..x\r\n.y\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\n\
            RCPT TO:<bob@x.test>\r\nBDAT 3\r\na\r\nBDAT 4 LAST\r\nb\r\n.BADCOMMAND\r\nQUIT\r\n";
        let run = |cuts: &[usize]| {
            let now = Instant::now();
            let mut session = Session::new(settings(Role::Mx), now);
            let (mut log, mut message, mut at, mut n) = (String::new(), Vec::new(), 0, 0);
            while at < dialogue.len() {
                let end = (at + cuts[n % cuts.len()]).min(dialogue.len());
                session.input(now, &dialogue[at..end]);
                log.push_str(&drain(&mut session, now, &mut message));
                (at, n) = (end, n + 1);
            }
            log.replace("~\n", "")
        };
        prop_assert_eq!(run(&cuts), run(&[dialogue.len()]));
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        super::fuzz_session(&bytes);
    }
}

#[test]
fn who_is_full_is_refused_alone_and_who_may_be_comes_alone() {
    let full = ("RCPT TO:<dora@x.test>\r\n", "552 5.2.2 The mailbox is full");
    let alone = "452 4.5.3 One recipient at a time, a mailbox is nearly full";
    let tight = |reply| ("RCPT TO:<tight@x.test>\r\n", reply);
    let bob = |reply| ("RCPT TO:<bob@x.test>\r\n", reply);
    let ok = "250 2.1.5 Recipient OK";
    let rset = ("RSET\r\n", "250 2.0.0 Reset");
    let sized = ("MAIL FROM:<c@y.test> SIZE=9\r\n", "250 2.1.0 Sender OK");
    // The size that was said and what trace lines add are over the room of `tight`.
    for mail in [MAIL, sized] {
        talk(
            settings(Role::Mx),
            &[
                HELLO,
                mail,
                RCPT,
                full,
                tight(alone),
                bob(ok),
                rset,
                mail,
                full,
                tight(ok),
                bob(alone),
                tight(alone),
                DATA,
                (
                    "x\r\n.\r\n",
                    "!message \"x\\r\\n\"\n!deliver tight@x.test 3\n250 2.0.0 kept",
                ),
                mail,
                RCPT,
                bob(ok),
            ],
        );
    }
}

#[test]
fn a_mail_program_sends_to_all_at_once() {
    let ok = "250 2.1.5 Recipient OK";
    let mut user = settings(Role::Submission);
    user.tls = true;
    user.can_start_tls = false;
    talk(
        user,
        &[
            (
                HELLO.0,
                "250-mx.test\n250-PIPELINING\n250-SIZE 100\n250-8BITMIME\n250-SMTPUTF8\n\
                 250-ENHANCEDSTATUSCODES\n250-CHUNKING\n250-BURL\n250 AUTH PLAIN LOGIN",
            ),
            (
                "AUTH PLAIN AGFsaWNlAHJpZ2h0\r\n",
                "235 2.7.0 Authentication successful",
            ),
            ("MAIL FROM:<alice@x.test>\r\n", "250 2.1.0 Sender OK"),
            ("RCPT TO:<tight@x.test>\r\n", ok),
            ("RCPT TO:<bob@x.test>\r\n", ok),
            ("RCPT TO:<dora@x.test>\r\n", "552 5.2.2 The mailbox is full"),
        ],
    );
}
