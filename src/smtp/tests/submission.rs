//! Users, who log in before they send.

use super::*;

#[test]
fn submission() {
    talk(
        settings(Role::Submission),
        &[
            HELLO,
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
    let hello = HELLO.1.replace("STARTTLS", "AUTH PLAIN LOGIN");
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
    let hello = HELLO.1.replace("STARTTLS", "AUTH PLAIN LOGIN");
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
    let hello = HELLO.1.replace("STARTTLS", "AUTH PLAIN LOGIN");
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
