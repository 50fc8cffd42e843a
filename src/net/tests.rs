use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{ConnectionLimits, ListenOptions, Listening, Places, Stream, TlsSource, listen};
use crate::telemetry::Telemetry;

fn certificate() -> (TlsSource, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.clone()], key)
        .unwrap();
    let server = Arc::new(server);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(move || Arc::clone(&server)), Arc::new(client))
}

fn options(implicit_tls: bool) -> ListenOptions {
    ListenOptions {
        service: "smtp",
        implicit_tls,
        limits: Arc::new(|| ConnectionLimits {
            connections: 3,
            per_ip: 2,
            keepalive: Duration::from_secs(60),
            unsent_bytes: 0,
            handshake_timeout: Duration::from_secs(5),
        }),
        places: Places::default(),
        busy_line: b"421 busy\r\n",
    }
}

/// Echoes bytes; `!` panics.
async fn echo(mut stream: Stream, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = stream.readable() => ready.unwrap(),
        }
        let mut buf = [0; 100];
        match stream.try_read(&mut buf).unwrap() {
            None => {}
            Some(0) => return,
            Some(n) if buf[..n].contains(&b'!') => panic!("asked for"),
            Some(n) => {
                stream.write_all(&buf[..n]).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }
}

fn start(options: ListenOptions, tls: TlsSource) -> (Listening, Arc<Telemetry>, CancellationToken) {
    let telemetry = Telemetry::new().unwrap();
    let stop = CancellationToken::new();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listening = listen(
        any,
        options,
        tls,
        Arc::clone(&telemetry),
        stop.clone(),
        |stream, _, stop| echo(stream, stop),
    )
    .unwrap();
    (listening, telemetry, stop)
}

async fn round_trip(client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), data: &[u8]) {
    client.write_all(data).await.unwrap();
    let mut back = vec![0; data.len()];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(back, data);
}

#[tokio::test]
async fn limits_panics_and_stop() {
    let (listening, telemetry, stop) = start(options(false), certificate().0);
    let connect = || TcpStream::connect(listening.local);
    let mut one = connect().await.unwrap();
    let mut two = connect().await.unwrap();
    round_trip(&mut one, b"hello").await;
    round_trip(&mut two, b"hello").await;

    let mut three = connect().await.unwrap();
    let mut text = String::new();
    three.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "421 busy\r\n", "one past the limit per address");

    two.write_all(b"!").await.unwrap();
    assert_eq!(two.read(&mut [0; 1]).await.unwrap_or(0), 0);
    // The place is free again once the task is gone.
    while telemetry.net.open("smtp") > 1 {
        tokio::task::yield_now().await;
    }
    let mut four = connect().await.unwrap();
    round_trip(&mut four, b"again").await;
    round_trip(&mut one, b"unharmed").await;

    stop.cancel();
    listening.done.await.unwrap();
    assert_eq!(telemetry.net.open("smtp"), 0);
    assert_eq!(one.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn tls_is_read_without_waiting_for_more() {
    let (source, client) = certificate();
    let (listening, _, stop) = start(options(true), source);
    let tcp = TcpStream::connect(listening.local).await.unwrap();
    let name = ServerName::try_from("mx.test").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(client)
        .connect(name, tcp)
        .await
        .unwrap();
    round_trip(&mut tls, b"small").await;
    // More than the echo's buffer in one record: the rest waits inside the TLS session.
    round_trip(&mut tls, &[b'x'; 5000]).await;
    stop.cancel();
    listening.done.await.unwrap();
}

#[tokio::test]
async fn start_tls_fails_on_nonsense_and_in_time() {
    let (source, _) = certificate();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();

    let mut client = TcpStream::connect(addr).await.unwrap();
    let (tcp, _) = server.accept().await.unwrap();
    client.write_all(b"EHLO not.tls\r\n").await.unwrap();
    let failed = Stream::Plain(tcp)
        .start_tls(source(), Duration::from_secs(5))
        .await;
    assert_eq!(
        failed.err().unwrap().kind(),
        std::io::ErrorKind::InvalidData
    );

    let _silent = TcpStream::connect(addr).await.unwrap();
    let (tcp, _) = server.accept().await.unwrap();
    let late = Stream::Plain(tcp)
        .start_tls(source(), Duration::from_millis(20))
        .await;
    assert_eq!(late.err().unwrap().kind(), std::io::ErrorKind::TimedOut);
}
