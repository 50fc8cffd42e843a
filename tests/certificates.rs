//! Certificates that are wrong, old, or of another key: what `config check`, `serve` and a reload
//! say of them.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use common::cli::Cli;
use common::serve::{AUTH, Serving, configuration};
use common::{IMAPS, PATIENCE};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use serde_json::{Value, json};

/// Days from now on which a certificate begins and ends.
fn certificate(name: &str, key: &KeyPair, days: (i64, i64)) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("names");
    let now = jiff::Timestamp::now();
    let at = |days: i64| {
        let at = now + jiff::SignedDuration::from_hours(24 * days);
        let day = jiff::tz::TimeZone::UTC.to_datetime(at).date();
        let (month, of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        rcgen::date_time_ymd(day.year().into(), month, of_month)
    };
    params.not_before = at(days.0);
    params.not_after = at(days.1);
    params.self_signed(key).expect("certificate").pem()
}

const TLS: &str = "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("write");
}

fn checked(cli: &Cli) -> (Option<i32>, Value) {
    let answer = cli.run(&["--json", "config", "check"], "");
    assert_eq!(answer.err, "");
    (
        answer.status,
        serde_json::from_str(&answer.out).expect("JSON"),
    )
}

#[test]
fn config_check_reads_the_certificates_that_are_named() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    let cli = Cli {
        config: dir.join("posthorn.toml"),
    };
    let text = configuration(common::free_base(), "data", TLS);
    write(dir, "posthorn.toml", &text);
    let line = |key: &str| {
        let at = text.lines().position(|line| line.starts_with(key));
        at.expect("line") + 1
    };
    let (own, other) = (
        KeyPair::generate().expect("key"),
        KeyPair::generate().expect("key"),
    );
    let good = certificate("mail.posthorn.test", &own, (-1, 90));
    let cut = &good[..good.len() / 2];
    let key = own.serialize_pem();

    // Certificate and key, and which of them is wrong how.
    for (cert_pem, key_pem, wrong, says) in [
        (None, Some(key.as_str()), "tls.certificate", "cert.pem: "),
        (Some(good.as_str()), None, "tls.key", "key.pem: "),
        (
            Some("nonsense"),
            Some(&key),
            "tls.certificate",
            "no certificate in PEM form",
        ),
        (Some(cut), Some(&key), "tls.certificate", "cert.pem: "),
        (Some(&good), Some("nonsense"), "tls.key", "key.pem: "),
        (Some(&good), Some(&good), "tls.key", "key.pem: "),
        (
            Some(&good),
            Some(&other.serialize_pem()),
            "tls.key",
            "is not the key of",
        ),
    ] {
        for (name, pem) in [("cert.pem", cert_pem), ("key.pem", key_pem)] {
            match pem {
                Some(pem) => write(dir, name, pem),
                None => drop(std::fs::remove_file(dir.join(name))),
            }
        }
        let (status, told) = checked(&cli);
        assert_eq!(status, Some(1), "{told}");
        assert_eq!(told["ok"], false);
        let errors = told["errors"].as_array().expect("errors");
        assert_eq!(errors.len(), 1, "{told}");
        let key = wrong.rsplit('.').next().expect("key");
        assert_eq!(errors[0]["key"], wrong, "{told}");
        assert_eq!(errors[0]["line"], line(key), "{told}");
        let message = errors[0]["message"].as_str().expect("message");
        assert!(message.contains(says), "{says}: {message}");
        // The same for people.
        let answer = cli.run(&["config", "check"], "");
        assert_eq!((answer.status, answer.out.as_str()), (Some(1), ""));
        assert!(answer.err.contains(says), "{}", answer.err);
    }

    write(dir, "key.pem", &key);
    for (name, days, says) in [
        ("mail.posthorn.test", (-1, 90), None),
        ("*.posthorn.test", (-1, 15), None),
        ("mail.posthorn.test", (-100, 13), Some("expires on")),
        ("mail.posthorn.test", (-100, -1), Some("expired on")),
        ("mail.posthorn.test", (2, 90), Some("is not good before")),
        (
            "other.test",
            (-1, 90),
            Some("does not name mail.posthorn.test"),
        ),
    ] {
        write(dir, "cert.pem", &certificate(name, &own, days));
        let (status, told) = checked(&cli);
        assert_eq!((status, &told["ok"]), (Some(0), &json!(true)), "{told}");
        assert_eq!(told["errors"], json!([]));
        let warnings = told["warnings"].as_array().expect("warnings");
        let of_tls: Vec<_> = warnings
            .iter()
            .filter(|w| w["key"] == "tls.certificate")
            .collect();
        match says {
            None => assert!(of_tls.is_empty(), "{told}"),
            Some(says) => {
                assert_eq!(of_tls.len(), 1, "{told}");
                let message = of_tls[0]["message"].as_str().expect("message");
                assert!(message.contains(says), "{message}");
            }
        }
    }
}

#[test]
fn config_check_tells_programs_each_error() {
    let home = tempfile::tempdir().expect("tempdir");
    let cli = Cli {
        config: home.path().join("posthorn.toml"),
    };
    let text = "hostname = \"a.test\"\ndata_dir = \"d\"\n[smtp]\nmax_hops = 0\n\
                [push]\nallow_private = [\"[::1/128]:443\"]\n";
    write(home.path(), "posthorn.toml", text);
    let (status, told) = checked(&cli);
    assert_eq!(status, Some(1));
    let errors = told["errors"].as_array().expect("errors");
    let at = |error: &Value| {
        let key = error["key"].as_str().expect("key").to_owned();
        (key, error["line"].as_u64(), error["column"].as_u64())
    };
    assert_eq!(
        errors.iter().map(at).collect::<Vec<_>>(),
        [
            ("push.allow_private".to_owned(), Some(6), Some(18)),
            ("smtp.max_hops".to_owned(), Some(4), Some(12)),
        ]
    );
    std::fs::remove_file(&cli.config).expect("remove");
    let (status, told) = checked(&cli);
    assert_eq!((status, &told["ok"]), (Some(1), &json!(false)));
    assert_eq!(told["errors"][0]["key"], Value::Null);
}

/// Takes any certificate: the test looks which one it is.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}

/// What the server at this port shows.
fn shown(port: u16) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let name = "localhost".try_into().expect("name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("session");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    session.complete_io(&mut stream).expect("handshake");
    session.peer_certificates().expect("certificates")[0].to_vec()
}

fn with_imaps(base: u16, more: &str) -> String {
    let tls = format!("[imap]\nlisten_tls = [\"127.0.0.1:{}\"]\n", base + IMAPS);
    configuration(base, "data", more).replace("[imap]\n", &tls)
}

fn serve(dir: &Path, more: &str) -> Serving {
    let base = common::free_base();
    let cli = Cli {
        config: dir.join("posthorn.toml"),
    };
    write(dir, "posthorn.toml", &with_imaps(base, more));
    Serving::launch(dir, base, cli, |_| {})
}

#[test]
fn an_expired_certificate_is_named_in_the_log_and_a_bad_one_changes_nothing() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    let key = KeyPair::generate().expect("key");
    write(dir, "key.pem", &key.serialize_pem());
    let old = certificate("mail.posthorn.test", &key, (-100, -1));
    write(dir, "cert.pem", &old);
    let mut serving = serve(dir, &format!("{TLS}{AUTH}"));
    let log = serving.log();
    assert!(log.contains("WARN") && log.contains("expired on"), "{log}");
    let (port, base) = (serving.base + IMAPS, serving.base);
    let first = shown(port);

    // With a good one it says nothing.
    write(
        dir,
        "cert.pem",
        &certificate("mail.posthorn.test", &key, (-1, 90)),
    );
    let log = serving.reload(&with_imaps(base, &format!("{TLS}{AUTH}")));
    assert!(!log.contains("certificate"), "{log}");
    let second = shown(port);
    assert_ne!(first, second);

    // A bad one: neither it nor what else is new in the file.
    write(dir, "cert.pem", "nonsense");
    let stricter = with_imaps(base, &format!("max_connections = 1\n{TLS}{AUTH}"));
    let log = serving.reload(&stricter);
    assert!(log.contains("stays as it was"), "{log}");
    assert_eq!(shown(port), second);
    let smtp = || common::Smtp::connect(base + common::SMTP).expect("SMTP");
    let (mut one, mut two) = (smtp(), smtp());
    for smtp in [&mut one, &mut two] {
        assert!(smtp.command("NOOP").expect("reply").starts_with("250"));
    }

    // An expired one again: the reload says so.
    write(dir, "cert.pem", &old);
    let log = serving.reload(&with_imaps(base, &format!("{TLS}{AUTH}")));
    assert!(log.contains("WARN") && log.contains("expired on"), "{log}");
    assert!(serving.stop().success());
}

#[test]
fn our_own_certificate_follows_the_host_name_and_is_else_the_same() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    let mut serving = serve(dir, AUTH);
    let (base, port) = (serving.base, serving.base + IMAPS);
    assert!(serving.log().contains("made a self-signed certificate"));
    let first = shown(port);
    let text = with_imaps(base, AUTH);
    let log = serving.reload(&text);
    assert!(!log.contains("self-signed"), "{log}");
    assert_eq!(shown(port), first);
    let renamed = text.replace("mail.posthorn.test", "mx.posthorn.test");
    let log = serving.reload(&renamed);
    assert!(
        log.contains("made a self-signed certificate for mx.posthorn.test"),
        "{log}"
    );
    let second = shown(port);
    assert_ne!(second, first);
    let config = serving.cli.config.clone();
    assert!(serving.stop().success());
    let serving = Serving::launch(dir, base, Cli { config }, |_| {});
    assert!(!serving.log().contains("self-signed"));
    assert_eq!(shown(port), second);
    assert!(serving.stop().success());
}
