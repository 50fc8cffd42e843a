//! SCRAM-SHA-256 against the real binary, over IMAP and submission, and bound to TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::common::serve::{AUTH, Serving};
use super::common::{IMAP, PASSWORD, PATIENCE, SUBMISSION};

/// One line to the server, one back.
trait Talk {
    fn tell(&mut self, line: &str);
    fn hear(&mut self) -> String;
}

struct Plain(BufReader<TcpStream>);

impl Plain {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut plain = Self(BufReader::new(stream));
        plain.hear();
        plain
    }
}

impl Talk for Plain {
    fn tell(&mut self, line: &str) {
        let line = format!("{line}\r\n");
        self.0.get_mut().write_all(line.as_bytes()).expect("write");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Talk for Tls {
    fn tell(&mut self, line: &str) {
        self.0
            .write_all(format!("{line}\r\n").as_bytes())
            .expect("write");
    }

    fn hear(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("a byte");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text").trim_end().to_owned()
    }
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

struct Client<'a> {
    user: &'a str,
    password: &'a str,
    gs2: &'a str,
    bound: &'a [u8],
}

impl Client<'_> {
    /// The first message, and the last one made of the server's first; and what the server must
    /// prove.
    fn last(&self, server_first: &str) -> (String, String) {
        let field = |name: &str| {
            let mut fields = server_first.split(',');
            fields.find_map(|f| f.strip_prefix(name)).expect("a field")
        };
        let salt = STANDARD.decode(field("s=")).expect("base64");
        let iterations: u32 = field("i=").parse().expect("a number");
        assert!(salt.len() >= 16 && iterations >= 4096);
        assert!(field("r=").starts_with("client") && field("r=").len() > 20);
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(iterations).expect("some"),
            &salt,
            self.password.as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, "Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let bound = STANDARD.encode([self.gs2.as_bytes(), self.bound].concat());
        let bare = format!("c={bound},r={}", field("r="));
        let message = format!("n={},r=client,{server_first},{bare}", self.user);
        let proof: Vec<u8> = sign(stored.as_ref(), &message)
            .iter()
            .zip(&client_key)
            .map(|(a, b)| a ^ b)
            .collect();
        let server = sign(&sign(&salted, "Server Key"), &message);
        (
            format!("{bare},p={}", STANDARD.encode(proof)),
            format!("v={}", STANDARD.encode(server)),
        )
    }

    /// What the server says at the end, after its proof was right. `head` begins the exchange,
    /// `go` stands before each challenge.
    fn login(&self, talk: &mut dyn Talk, head: &str, go: &str) -> String {
        let first = format!("{}n={},r=client", self.gs2, self.user);
        talk.tell(&format!("{head} {}", STANDARD.encode(first)));
        let decode = |line: &str| {
            let text = line.strip_prefix(go)?;
            String::from_utf8(STANDARD.decode(text).ok()?).ok()
        };
        let line = talk.hear();
        let Some(server_first) = decode(&line) else {
            return line;
        };
        let (last, proof) = self.last(&server_first);
        talk.tell(&STANDARD.encode(last));
        let line = talk.hear();
        let Some(server_last) = decode(&line) else {
            return line;
        };
        assert_eq!(server_last, proof);
        talk.tell("");
        talk.hear()
    }
}

fn client(user: &str) -> Client<'_> {
    Client {
        user,
        password: PASSWORD,
        gs2: "n,,",
        bound: b"",
    }
}

const SCRAM: &str = "a AUTHENTICATE SCRAM-SHA-256";
const PLUS: &str = "a AUTHENTICATE SCRAM-SHA-256-PLUS";
const INVALID: &str = "a NO [AUTHENTICATIONFAILED] Invalid credentials";

#[test]
fn over_imap_and_submission() {
    let home = tempfile::tempdir().expect("tempdir");
    let serving = Serving::start(home.path(), AUTH);
    let mut imap = Plain::connect(serving.base + IMAP);
    let wrong = Client {
        password: "wrong",
        ..client("alice")
    };
    assert_eq!(wrong.login(&mut imap, SCRAM, "+ "), INVALID);
    assert_eq!(client("nobody").login(&mut imap, SCRAM, "+ "), INVALID);
    let line = client("alice@posthorn.test").login(&mut imap, SCRAM, "+ ");
    assert!(line.starts_with("a OK [CAPABILITY "), "{line}");
    imap.tell("b SELECT INBOX");
    assert!(imap.hear().starts_with("* "));

    let mut smtp = Plain::connect(serving.base + SUBMISSION);
    smtp.tell("EHLO client.test");
    let mut offered = String::new();
    while !offered.starts_with("250 ") {
        offered = smtp.hear();
        if let Some(names) = offered.get(4..).and_then(|l| l.strip_prefix("AUTH ")) {
            assert_eq!(names, "SCRAM-SHA-256 PLAIN LOGIN");
        }
    }
    let line = wrong.login(&mut smtp, "AUTH SCRAM-SHA-256", "334 ");
    assert!(line.starts_with("535 "), "{line}");
    let line = client("bob").login(&mut smtp, "AUTH SCRAM-SHA-256", "334 ");
    assert_eq!(line, "235 2.7.0 Authentication successful");
    smtp.tell("MAIL FROM:<bob@posthorn.test>");
    assert!(smtp.hear().starts_with("250 "));

    // A new password has new keys, at once.
    let passwd = [
        "account",
        "passwd",
        "alice@posthorn.test",
        "--password-stdin",
    ];
    serving.cli.ok(&passwd, "another");
    let mut imap = Plain::connect(serving.base + IMAP);
    assert_eq!(client("alice").login(&mut imap, SCRAM, "+ "), INVALID);
    let another = Client {
        password: "another",
        ..client("alice")
    };
    let line = another.login(&mut imap, SCRAM, "+ ");
    assert!(line.starts_with("a OK "), "{line}");
    assert!(serving.stop().success());
}

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
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn starttls(port: u16, version: &'static rustls::SupportedProtocolVersion) -> Tls {
    let mut plain = Plain::connect(port);
    plain.tell("t STARTTLS");
    assert!(plain.hear().starts_with("t OK"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let name = "localhost".try_into().expect("name");
    let session = ClientConnection::new(Arc::new(config), name).expect("session");
    let mut tls = Tls(StreamOwned::new(session, plain.0.into_inner()));
    tls.tell("c CAPABILITY");
    let line = tls.hear();
    assert!(
        line.contains(" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN "),
        "{line}"
    );
    assert!(tls.hear().starts_with("c OK"));
    tls
}

fn exporter(tls: &Tls) -> [u8; 32] {
    tls.0
        .conn
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .expect("exported")
}

#[test]
fn bound_to_its_connection() {
    let home = tempfile::tempdir().expect("tempdir");
    let serving = Serving::start(home.path(), AUTH);
    let port = serving.base + IMAP;
    let other = exporter(&starttls(port, &rustls::version::TLS13));
    let mut tls = starttls(port, &rustls::version::TLS13);
    let own = exporter(&tls);
    let by_exporter = |bound| Client {
        gs2: "p=tls-exporter,,",
        bound,
        ..client("alice")
    };
    // Somebody in between has two connections.
    assert_eq!(by_exporter(&other).login(&mut tls, PLUS, "+ "), INVALID);
    // Or hides from the client that there is a binding.
    let hidden = Client {
        gs2: "y,,",
        ..client("alice")
    };
    assert_eq!(hidden.login(&mut tls, SCRAM, "+ "), INVALID);
    let line = by_exporter(&own).login(&mut tls, PLUS, "+ ");
    assert!(line.starts_with("a OK "), "{line}");

    let mut tls = starttls(port, &rustls::version::TLS12);
    let certificate = tls.0.conn.peer_certificates().expect("shown")[0].clone();
    let hash = digest::digest(&digest::SHA256, &certificate);
    let old = exporter(&tls);
    assert_eq!(by_exporter(&old).login(&mut tls, PLUS, "+ "), INVALID);
    let by_certificate = Client {
        gs2: "p=tls-server-end-point,,",
        bound: hash.as_ref(),
        ..client("alice")
    };
    let line = by_certificate.login(&mut tls, PLUS, "+ ");
    assert!(line.starts_with("a OK "), "{line}");
    assert!(serving.stop().success());
}
