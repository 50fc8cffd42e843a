//! OAUTHBEARER against the real binary (RFC 7628).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::common::serve::{AUTH, Serving};
use super::common::{IMAP, Imap, SUBMISSION, Smtp};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn token(claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}");
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn first(user: &str, token: &str) -> String {
    STANDARD.encode(format!(
        "n,{user},\x01host=mail.posthorn.test\x01port=143\x01auth=Bearer {token}\x01\x01"
    ))
}

const GOOD: &str = "{\"iss\":\"https://id.test\",\"aud\":\"mail\",\"exp\":9999999999,\
                    \"email\":\"alice@posthorn.test\"}";

#[test]
fn a_token_logs_in_whom_it_names_and_nobody_else() {
    let home = tempfile::tempdir().expect("tempdir");
    let set = format!(
        "{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{}\"}}]}}",
        URL_SAFE_NO_PAD.encode(SECRET)
    );
    std::fs::write(home.path().join("keys.json"), set).expect("write");
    let oauth = "[auth.oauth]\nkeys = \"keys.json\"\nissuer = \"https://id.test\"\n\
                 audience = \"mail\"\n";
    let serving = Serving::start(home.path(), &format!("{AUTH}{oauth}"));
    let mut imap = Imap::connect(serving.base + IMAP).expect("IMAP");
    let offered = &imap.ok("CAPABILITY")[0].text;
    assert!(offered.contains(" AUTH=OAUTHBEARER "), "{offered}");
    let expired = GOOD.replace("9999999999", "1");
    for (user, claims) in [
        ("a=alice@posthorn.test", expired.as_str()),
        ("a=bob@posthorn.test", GOOD),
        ("", &GOOD.replace("alice@", "nobody@")),
        ("", &GOOD.replace("mail\"", "web\"")),
    ] {
        let command = format!(
            "a AUTHENTICATE OAUTHBEARER {}\r\n",
            first(user, &token(claims))
        );
        imap.send(command.as_bytes());
        let challenge = imap.line().expect("a challenge").text;
        let json = STANDARD.decode(challenge.strip_prefix("+ ").expect("a challenge"));
        assert_eq!(json.expect("base64"), b"{\"status\":\"invalid_token\"}");
        imap.send(b"AQ==\r\n");
        let line = imap.line().expect("an answer").text;
        assert_eq!(
            line, "a NO [AUTHENTICATIONFAILED] Invalid credentials",
            "{claims}"
        );
    }
    let command = format!(
        "b AUTHENTICATE OAUTHBEARER {}\r\n",
        first("a=alice@posthorn.test", &token(GOOD))
    );
    imap.send(command.as_bytes());
    let (_, tagged) = imap.until("b");
    assert!(tagged.starts_with("OK "), "{tagged}");
    imap.ok("SELECT INBOX");

    let mut smtp = Smtp::connect(serving.base + SUBMISSION).expect("SMTP");
    let offered = smtp.command("EHLO client.test").expect("a reply");
    assert!(offered.contains("OAUTHBEARER"), "{offered}");
    let command = format!("AUTH OAUTHBEARER {}", first("", &token(&expired)));
    assert!(smtp.command(&command).expect("a reply").starts_with("334 "));
    assert!(smtp.command("AQ==").expect("a reply").starts_with("535 "));
    let command = format!("AUTH OAUTHBEARER {}", first("", &token(GOOD)));
    let reply = smtp.command(&command).expect("a reply");
    assert!(reply.starts_with("235 "), "{reply}");
    let reply = smtp
        .command("MAIL FROM:<bob@posthorn.test>")
        .expect("a reply");
    assert!(reply.starts_with('5'), "{reply}");
    assert!(serving.stop().success());
}
