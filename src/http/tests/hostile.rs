//! Clients that are silent, slow, deaf, or other sites' pages.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_strange_clients_are_let_go() {
    let server = Server::new("").await;
    let address = server
        .plain
        .strip_prefix("http://")
        .expect("plain")
        .to_owned();
    // Half a head, a body that never comes, and no HTTP at all: each ends by itself.
    for (sent, answer) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow:", None),
        (
            "POST /api/v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2VAeC50ZXN0OnJpZ2h0\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
            Some("HTTP/1.1 408 "),
        ),
        ("\0\u{1}\u{2} nonsense\r\n\r\n", Some("HTTP/1.1 400 ")),
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut got = Vec::new();
        let patience = std::time::Duration::from_secs(20);
        let read = tokio::time::timeout(patience, stream.read_to_end(&mut got)).await;
        if let Some(answer) = answer {
            let text = String::from_utf8_lossy(&got);
            assert!(text.starts_with(answer), "{sent:?}: {text:?}");
        }
        assert!(read.is_ok(), "{sent:?} was left open");
    }
    // Nobody has asked for anything yet: such answers have no body.
    let many = format!(
        "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    for (sent, answer) in [
        ("GET nonsense\r\n\r\n", "HTTP/1.1 400 "),
        (many.as_str(), "HTTP/1.1 431 "),
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let text = String::from_utf8(closed(sent, &mut stream).await).expect("text");
        assert!(
            text.starts_with(answer) && text.ends_with("\r\n\r\n"),
            "{text:?}"
        );
    }
    let huge = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    let mut stream = TcpStream::connect(&address).await.expect("connected");
    let _ = stream.write_all(huge.as_bytes()).await;
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    assert!(!String::from_utf8_lossy(&got).contains(" 200 "));
    assert_eq!(
        server.get(&format!("{}/healthz", server.plain)).await.0,
        StatusCode::OK
    );
}

/// Reads until the server closes; panics where it does not.
async fn closed(what: &str, stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    let patience = std::time::Duration::from_secs(20);
    let read = tokio::time::timeout(patience, stream.read_to_end(&mut got)).await;
    assert!(read.is_ok(), "{what} is left open");
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_let_go() {
    let server = Server::new("").await;
    let plain = server.plain.strip_prefix("http://").expect("plain");
    for sent in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(plain).await.expect("connected");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        closed(sent, &mut stream).await;
    }
    // A preface that drips is no preface.
    let mut stream = TcpStream::connect(plain).await.expect("connected");
    let (mut read, mut write) = stream.split();
    let drip = async {
        for byte in b"PRI * HTTP/2.0\r\n\r\n".iter().cycle() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = closed("a dripping preface", &mut read) => {}
        () = drip => {}
    }
    let address = server.tls.strip_prefix("https://").expect("TLS");
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (alpn, sent) in [
        (None, &b""[..]),
        (Some("http/1.1"), b"GET"),
        (Some("h2"), b""),
        (Some("h2"), &preface[..10]),
        // It never answers a ping.
        (Some("h2"), preface),
    ] {
        let mut stream = tls_client(address, alpn).await;
        stream.write_all(sent).await.expect("sent");
        closed(&format!("{alpn:?} {sent:?}"), &mut stream).await;
    }
    assert_eq!(
        server.get(&format!("{}/healthz", server.tls)).await.0,
        StatusCode::OK
    );
}

/// Takes any certificate.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

async fn tls_client(
    address: &str,
    alpn: Option<&str>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(address).await.expect("connected");
    let name = "mail.x.test".try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .expect("handshake")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_that_answers_pings_is_let_go() {
    let server = Server::new("").await;
    let url = format!("{}/healthz", server.tls);
    let answer = server.client.get(&url).send().await.expect("answer");
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    let open = || {
        let by_service = server
            .context
            .telemetry
            .gauge_by("posthorn_net_connections", "service");
        by_service.get("http").copied().unwrap_or(0.0) > 0.0
    };
    assert!(open());
    let closed = async {
        while open() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed)
        .await
        .expect("closed");
    assert_eq!(server.get(&url).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_let_go() {
    let server = Server::new("").await;
    let plain = server.plain.strip_prefix("http://").expect("plain");
    let mut stream = TcpStream::connect(plain).await.expect("connected");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let cut_off = async { while stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), cut_off)
        .await
        .expect("cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_registers_nothing() {
    let server = Server::new("").await;
    let url = format!("{}/api/v1/devices", server.tls);
    let body = new_device("evil", "e").to_string();
    for (name, value, kind, status) in [
        ("origin", "https://evil.example", "application/json", 403),
        ("origin", "null", "text/plain", 403),
        ("sec-fetch-site", "same-site", "application/json", 403),
        ("x-none", "", "text/plain", 415),
        ("origin", server.tls.as_str(), "application/json", 201),
    ] {
        let answer = server
            .client
            .post(&url)
            .basic_auth("alice@x.test", Some("right"))
            .header("content-type", kind)
            .header(name, value)
            .body(body.clone());
        let answer = answer.send().await.expect("answer");
        assert_eq!(answer.status().as_u16(), status, "{name}: {value} {kind}");
        let listed = server.api(Method::GET, "/devices", None).await.1;
        let count = listed["devices"].as_array().map(Vec::len);
        assert_eq!(count, Some(usize::from(status == 201)));
    }
}
