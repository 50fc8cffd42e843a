//! Users, who log in before they send.

use super::*;

/// What those hear who may log in.
pub(super) fn hello(burl: &str) -> String {
    let lines = format!("250-{burl}\n250 AUTH PLAIN LOGIN");
    HELLO.1.replace("250 STARTTLS", &lines)
}

/// RFC 4468, 6: parts that the server has, between others that come.
#[test]
fn parts_by_url() {
    let mut tls = settings(Role::Submission);
    tls.tls = true;
    let again = hello("BURL imap imap://mx.test");
    let login = (
        "AUTH PLAIN AGEAcmlnaHQ=\r\n",
        "235 2.7.0 Authentication successful",
    );
    let mail = ("MAIL FROM:<alice@x.test>\r\n", "250 2.1.0 Sender OK");
    let rcpt = ("RCPT TO:<bob@x.test>\r\n", "250 2.1.5 Recipient OK");
    let last =
        "!read on\n!message \"Su: s\\r\\n\\r\\nof mine\"\n!deliver bob@x.test 16\n250 2.0.0 kept";
    let none = "503 5.5.1 No valid recipients";
    let refused = "554 5.7.0 IMAP URL resolution or authorization failed";
    talk(
        tls.clone(),
        &[
            ("EHLO c.test\r\n", &hello("BURL")),
            (
                "BURL imap://mine LAST\r\n",
                "530 5.7.0 Authentication required",
            ),
            login,
            ("EHLO c.test\r\n", &again),
            ("BURL imap://mine LAST\r\n", none),
            mail,
            rcpt,
            ("BDAT 9\r\nSu: s\r\n\r\n", "250 2.0.0 Chunk received"),
            (
                "BURL imap://mine LAST\r\nNOOP\r\n",
                &format!("{last}\n250 2.0.0 OK"),
            ),
            mail,
            rcpt,
            (
                "BURL imap://mine\r\nBDAT 0 LAST\r\n",
                "!read on\n250 2.0.0 Chunk received\n!message \"of mine\"\n\
                 !deliver bob@x.test 7\n250 2.0.0 kept",
            ),
            // What can't be had ends the transaction, and nothing of it is kept.
            mail,
            rcpt,
            ("BDAT 2\r\nab", "250 2.0.0 Chunk received"),
            (
                "BURL imap://other LAST\r\nBDAT 1 LAST\r\nx",
                &format!("{refused}\n{none}"),
            ),
        ],
    );
    talk(
        tls,
        &[
            ("EHLO c.test\r\n", &hello("BURL")),
            login,
            mail,
            rcpt,
            (
                "BURL imap://slow LAST\r\n",
                "451 4.4.1 The IMAP URL can't be read now, try again",
            ),
            mail,
            rcpt,
            (
                "BURL imap://large\r\n",
                "!read on\n250 2.0.0 Chunk received",
            ),
            (
                "BURL imap://large\r\n",
                "!read on\n250 2.0.0 Chunk received",
            ),
            ("BURL imap://large LAST\r\n", "552 5.3.4 Message too large"),
            ("BURL\r\n", "501 5.5.4 BURL needs a URL"),
            ("BURL imap://x NOW\r\n", "501 5.5.4 BURL knows only LAST"),
        ],
    );
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            (
                "BURL imap://mine LAST\r\n",
                "500 5.5.1 Command not recognized",
            ),
        ],
    );
}

#[test]
fn submission() {
    talk(
        settings(Role::Submission),
        &[
            (
                HELLO.0,
                &HELLO.1.replace("250 STARTTLS", "250-BURL\n250 STARTTLS"),
            ),
            (
                "MAIL FROM:<alice@x.test>\r\n",
                "530 5.7.0 Authentication required",
            ),
            (
                "AUTH PLAIN AGEAcmlnaHQ=\r\n",
                "538 5.7.11 Encryption required: use STARTTLS",
            ),
        ],
    );
    let mut tls = settings(Role::Submission);
    tls.tls = true;
    let hello = hello("BURL");
    talk(
        tls.clone(),
        &[
            ("EHLO c.test\r\n", &hello),
            (
                "AUTH CRAM-MD5\r\n",
                "504 5.5.4 Unknown authentication mechanism",
            ),
            (
                "AUTH PLAIN AGEAd3Jvbmc=\r\n",
                "535 5.7.8 Authentication credentials invalid",
            ),
            ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6"),
            ("*\r\n", "501 5.7.0 Authentication cancelled"),
            ("AUTH LOGIN YQ==\r\n", "334 UGFzc3dvcmQ6"),
            (
                "bXVjaA==\r\n",
                "454 4.7.0 Too many failed logins, try again later",
            ),
        ],
    );
    talk(
        tls,
        &[
            ("EHLO c.test\r\n", &hello),
            ("AUTH PLAIN\r\n", "334"),
            ("AGEAcmlnaHQ=\r\n", "235 2.7.0 Authentication successful"),
            ("AUTH PLAIN\r\n", "503 5.5.1 Already authenticated"),
            (
                "MAIL FROM:<bob@x.test>\r\n",
                "553 5.7.1 Sender address is not yours",
            ),
            ("MAIL FROM:<alice@x.test>\r\n", "250 2.1.0 Sender OK"),
            (
                "RCPT TO:<a@z.test>\r\n",
                "550 5.7.1 Delivery to other domains is not available on this server",
            ),
            ("RCPT TO:<bob@x.test>\r\n", "250 2.1.5 Recipient OK"),
            DATA,
            (
                "a\nb\r\n.\r\n",
                "!message \"a\\r\\nb\\r\\n\"\n!deliver bob@x.test 6\n250 2.0.0 kept",
            ),
            // Its account is removed meanwhile: the login is worth nothing any more.
            (
                "MAIL FROM:<removed@x.test>\r\n",
                "530 5.7.0 Authentication required",
            ),
            (
                "MAIL FROM:<alice@x.test>\r\n",
                "530 5.7.0 Authentication required",
            ),
            (
                "AUTH PLAIN AGEAcmlnaHQ=\r\n",
                "235 2.7.0 Authentication successful",
            ),
        ],
    );
}

#[test]
fn a_line_of_a_login_has_its_own_limit() {
    let mut tls = settings(Role::Submission);
    tls.tls = true;
    let hello = hello("BURL");
    let line = |length| format!("{}\r\n", "A".repeat(length));
    talk(
        tls,
        &[
            ("EHLO c.test\r\n", &hello),
            ("AUTH PLAIN\r\n", "334"),
            (&line(12_288), "501 5.5.2 Malformed credentials"),
            ("AUTH PLAIN\r\n", "334"),
            (&line(12_289), "500 5.5.6 Line too long"),
            ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6"),
            (&"A".repeat(20_000), ""),
            ("A\r\n", "500 5.5.6 Line too long"),
            ("AUTH PLAIN\r\n", "334"),
            (
                "*\r\nNOOP\r\n",
                "501 5.7.0 Authentication cancelled\n250 2.0.0 OK",
            ),
        ],
    );
}

#[test]
fn a_login_in_one_line_has_the_same_limit() {
    use base64::Engine;
    let mut tls = settings(Role::Submission);
    tls.tls = true;
    let hello = hello("BURL");
    let text = base64::engine::general_purpose::STANDARD.encode([b'x'; 9000]);
    let long = "A".repeat(12_288 - "auth plain ".len());
    talk(
        tls,
        &[
            ("EHLO c.test\r\n", &hello),
            (
                &format!("AUTH PLAIN {text}\r\n"),
                "501 5.5.2 Malformed credentials",
            ),
            (&format!("auth plain {long}\r\n"), "501 5.5.2 Not base64"),
            (
                &format!("auth plain {long}A\r\n"),
                "500 5.5.6 Line too long",
            ),
            (&format!("AUTHOR {text}\r\n"), "500 5.5.2 Line too long"),
        ],
    );
    // Where nobody logs in, it is a line like any other.
    talk(
        settings(Role::Mx),
        &[
            HELLO,
            (&format!("AUTH PLAIN {text}\r\n"), "500 5.5.2 Line too long"),
        ],
    );
}
