//! The service on real sockets.

mod hostile;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::devices::{Asked, DeviceTester, NotTested, TestResult};
use crate::net::lookup::Lookups;
use crate::store::{DeviceState, Options, Update};
use crate::tls::Certificates;
use crate::types::{AccountId, Address, DeviceId, Domain, Secret};

const P256DH: &str =
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

#[derive(Default)]
struct Tester {
    edits: Arc<Mutex<()>>,
    changed: parking_lot::Mutex<Vec<DeviceId>>,
    /// What the next tests come to, and how long they take.
    refusals: parking_lot::Mutex<Vec<NotTested>>,
    takes: parking_lot::Mutex<std::time::Duration>,
}

impl DeviceTester for Tester {
    fn edits(&self) -> Arc<Mutex<()>> {
        self.edits.clone()
    }
    fn changed(&self, _: AccountId, device: DeviceId) -> Asked<'_, ()> {
        self.changed.lock().push(device);
        Box::pin(std::future::ready(()))
    }
    fn test(&self, _: AccountId, _: DeviceId) -> Asked<'_, Result<TestResult, NotTested>> {
        let refusal = self.refusals.lock().pop();
        let takes = *self.takes.lock();
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            refusal.map_or_else(
                || {
                    Ok(TestResult {
                        outcome: "delivered".into(),
                        status: Some(201),
                        answer: "accepted".into(),
                    })
                },
                Err,
            )
        })
    }
}

struct Server {
    context: Context,
    tester: Arc<Tester>,
    account: AccountId,
    plain: String,
    tls: String,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn new(extra: &str) -> Self {
        Self::with(extra, Lookups::new()).await
    }

    async fn with(extra: &str, lookups: Arc<Lookups>) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let text = format!(
            "hostname = 'mail.x.test'\ndata_dir = '{}'\n\
             [http]\nlisten = ['127.0.0.1:0']\nlisten_tls = ['127.0.0.1:0']\n\
             max_body_bytes = 4096\nrequest_timeout_secs = 2\nidle_timeout_secs = 3\nwrite_timeout_secs = 2\n\
             [auth]\nargon2_memory_kib = 64\nargon2_iterations = 1\nmax_failures = 3\n{extra}",
            dir.path().display()
        );
        let config: Config = toml::from_str(&text).expect("valid");
        let telemetry = Telemetry::new().expect("metrics");
        let options = Options {
            dir: dir.path().to_owned(),
            config: config.store.clone(),
            subaddress_separator: '+',
        };
        let store = Store::open(options, telemetry.clone()).expect("opened");
        let auth = Auth::new(store.clone(), &config.auth, telemetry.clone());
        store
            .domain_add(Domain::parse("x.test").expect("valid"))
            .await
            .expect("added");
        let hash = auth.hash(&Secret::new("right")).await.expect("hashed");
        let address = Address::parse("alice@x.test").expect("valid");
        let account = store.account_add(address, hash).await.expect("added");
        let certificates =
            Certificates::load(&config.tls, &config.hostname, dir.path()).expect("certificate");
        let tester = Arc::new(Tester::default());
        let config = Arc::new(ArcSwap::from_pointee(config));
        let known: Arc<dyn DeviceTester> = tester.clone();
        let context = Context {
            devices: Devices::new(store.clone(), config.clone(), Some(known), lookups),
            store,
            auth,
            config,
            tls: Arc::new(move || certificates.server_config_with_alpn(&[b"h2", b"http/1.1"])),
            telemetry,
            stop: CancellationToken::new(),
            ready: Arc::new(AtomicBool::new(false)),
        };
        let listening = start(&context).expect("bound");
        let client = Client::builder()
            .no_proxy()
            .tls_danger_accept_invalid_certs(true)
            .build()
            .expect("client");
        Self {
            context,
            tester,
            account,
            plain: format!("http://{}", listening[0].local),
            tls: format!("https://{}", listening[1].local),
            client,
            _dir: dir,
        }
    }

    async fn get(&self, url: &str) -> (StatusCode, String) {
        let answer = self.client.get(url).send().await.expect("answer");
        let status = answer.status();
        (status, answer.text().await.expect("text"))
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self
            .client
            .request(method, format!("{}/api/v1{path}", self.tls))
            .basic_auth("alice@x.test", Some("right"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("answer");
        let status = answer.status();
        let text = answer.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn code_of(&self, id: u64) -> String {
        let id = DeviceId(u32::try_from(id).expect("small"));
        match self
            .context
            .store
            .device(self.account, id)
            .expect("read")
            .expect("there")
            .state
        {
            DeviceState::Unverified { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }
}

fn new_device(name: &str, path: &str) -> Value {
    json!({
        "name": name,
        "subscription": {
            "endpoint": format!("https://push.example/{path}"),
            "expirationTime": null,
            "keys": { "p256dh": P256DH, "auth": AUTH },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_from_its_registration_to_its_end() {
    let server = Server::new("").await;
    let (status, device) = server
        .api(
            Method::POST,
            "/devices",
            Some(new_device(" Alice's phone ", "secret")),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{device}");
    assert_eq!(
        (&device["name"], &device["state"]),
        (&"Alice's phone".into(), &"unverified".into())
    );
    assert_eq!(device["origin"], "https://push.example");
    assert_eq!(device["show"], "sender-subject");
    let id = device["id"].as_u64().expect("id");
    assert_eq!(server.tester.changed.lock().len(), 1);
    // The code is owed to the device already.
    assert_eq!(server.context.store.outbox().expect("read").len(), 1);
    let path = format!("/devices/{id}");
    let verify = format!("{path}/verify");
    for code in ["", "0", &"0".repeat(22)] {
        let (status, error) = server
            .api(Method::POST, &verify, Some(json!({ "code": code })))
            .await;
        assert_eq!(
            (status, &error["error"]["code"]),
            (StatusCode::FORBIDDEN, &"wrong-code".into())
        );
    }
    let (status, error) = server
        .api(Method::POST, &format!("{path}/test"), None)
        .await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (StatusCode::CONFLICT, &"unverified".into())
    );
    let code = json!({ "code": server.code_of(id) });
    // Registering it once more before makes a new code, for the first may have been lost.
    let again = server
        .api(Method::POST, "/devices", Some(new_device("x", "secret")))
        .await;
    assert_eq!((again.0, &again.1["id"]), (StatusCode::CREATED, &id.into()));
    assert_ne!(code["code"], server.code_of(id));
    assert_eq!(server.tester.changed.lock().len(), 2);
    let (status, _) = server.api(Method::POST, &verify, Some(code)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    // The code did not get there at once.
    let number = DeviceId(u32::try_from(id).expect("small"));
    let store = &server.context.store;
    let mut failed = store
        .device(server.account, number)
        .expect("read")
        .expect("there");
    failed.last_failure = Some(crate::types::UnixMillis(5));
    failed.last_error = Some("timeout".into());
    failed.failures = 2;
    let put = Update::DevicePut(Box::new(failed));
    store.update(vec![put]).await.expect("noted");
    let code = json!({ "code": server.code_of(id) });
    let (status, device) = server.api(Method::POST, &verify, Some(code)).await;
    assert_eq!(
        (status, &device["state"]),
        (StatusCode::OK, &"active".into())
    );
    assert_eq!(
        (
            &device["last_error"],
            &device["failures"],
            &device["last_failure"]
        ),
        (&Value::Null, &0.into(), &5.into())
    );
    assert_eq!(device["last_success"], Value::Null);
    assert!(server.context.store.outbox().expect("read").is_empty());
    // The same subscription again: same device, still verified.
    let (status, again) = server
        .api(
            Method::POST,
            "/devices",
            Some(new_device("New name", "secret")),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&again["id"], &again["state"]),
        (&id.into(), &"active".into())
    );
    let (status, result) = server
        .api(Method::POST, &format!("{path}/test"), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        result,
        json!({"outcome": "delivered", "status": 201, "answer": "accepted"})
    );
    for (refusal, status, code) in [
        (NotTested::Later, 503, "try-later"),
        (NotTested::TooOften { retry_secs: 41 }, 429, "too-often"),
    ] {
        server.tester.refusals.lock().push(refusal);
        let (got, error) = server
            .api(Method::POST, &format!("{path}/test"), None)
            .await;
        assert_eq!(got.as_u16(), status);
        assert_eq!(error["error"]["code"], code);
    }
    // A push service may take longer than a request may otherwise.
    *server.tester.takes.lock() = std::time::Duration::from_millis(2500);
    let (status, _) = server
        .api(Method::POST, &format!("{path}/test"), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    let (status, error) = server
        .api(Method::POST, &verify, Some(json!({ "code": "wrong" })))
        .await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (StatusCode::CONFLICT, &"already-verified".into())
    );
    let (_, paused) = server
        .api(Method::POST, &format!("{path}/pause"), None)
        .await;
    assert_eq!(paused["state"], "paused");
    let (_, resumed) = server
        .api(Method::POST, &format!("{path}/resume"), None)
        .await;
    assert_eq!(resumed["state"], "active");
    let (status, list) = server.api(Method::GET, "/devices", None).await;
    assert_eq!(
        (status, list["devices"].as_array().map(Vec::len)),
        (StatusCode::OK, Some(1))
    );
    assert_eq!(list["devices"][0]["name"], "New name");
    for secret in ["secret\"", P256DH, AUTH, "/secret"] {
        assert!(!list.to_string().contains(secret), "{secret}");
    }
    let (status, _) = server.api(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for (method, path) in [
        (Method::DELETE, path.as_str()),
        (Method::GET, &path),
        (Method::GET, "/devices/x"),
    ] {
        let (status, error) = server.api(method, path, None).await;
        assert_eq!(
            (status, &error["error"]["code"]),
            (StatusCode::NOT_FOUND, &"not-found".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why() {
    let server =
        Server::new("[push]\nmax_devices_per_account = 2\nmax_registrations_per_hour = 4").await;
    let with = |pointer: &str, value: Value| {
        let mut device = new_device("x", "p");
        *device.pointer_mut(pointer).expect("there") = value;
        device
    };
    for (body, status, code) in [
        (json!({}), 400, "bad-request"),
        (json!([]), 400, "bad-request"),
        (with("/name", "".into()), 422, "bad-name"),
        (with("/name", "a\nb".into()), 422, "bad-name"),
        (with("/name", "é".repeat(101).into()), 422, "bad-name"),
        (
            with("/subscription/endpoint", "http://push.example/".into()),
            422,
            "bad-subscription",
        ),
        (
            with("/subscription/endpoint", "https://10.0.0.1/".into()),
            422,
            "bad-subscription",
        ),
        (
            with("/subscription/endpoint", "https://localhost/".into()),
            422,
            "bad-subscription",
        ),
        (
            with("/subscription/keys/auth", "AAAA".into()),
            422,
            "bad-subscription",
        ),
        (with("/name", "x".repeat(5000).into()), 413, "too-large"),
    ] {
        let (got, error) = server
            .api(Method::POST, "/devices", Some(body.clone()))
            .await;
        assert_eq!(
            (got.as_u16(), &error["error"]["code"]),
            (status, &code.into()),
            "{body}"
        );
        assert!(error["error"]["message"].is_string());
    }
    for (path, status) in [("a", 201), ("b", 201), ("c", 409), ("d", 429)] {
        let (got, answer) = server
            .api(Method::POST, "/devices", Some(new_device("x", path)))
            .await;
        assert_eq!(got.as_u16(), status, "{path}: {answer}");
    }
    let (status, error) = server.api(Method::GET, "/nothing", None).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (StatusCode::NOT_FOUND, &"not-found".into())
    );
    let (status, error) = server.api(Method::PUT, "/devices", None).await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"method-not-allowed".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_resolver_is_asked_a_little_and_never_too_often() {
    let (never, silence) = std::sync::mpsc::channel::<()>();
    let silence = parking_lot::Mutex::new(silence);
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let lookups = Lookups::by(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = silence.lock().recv();
        Err(std::io::Error::other("no answer"))
    });
    let limits = "[push]\nmax_registrations_per_hour = 4\nconnect_timeout_secs = 1";
    let server = Server::with(limits, lookups).await;
    let mut answers = vec![];
    for n in 0..6 {
        let device = new_device("x", &n.to_string());
        let (status, error) = server.api(Method::POST, "/devices", Some(device)).await;
        answers.push((
            status.as_u16(),
            error["error"]["code"].as_str().map(str::to_owned),
        ));
    }
    let refused = |status, code: &str| (status, Some(code.to_owned()));
    let (taken, busy, often) = ((201, None), refused(503, "busy"), refused(429, "too-often"));
    let expected = [&taken, &taken, &busy, &busy, &often, &often];
    assert!(answers.iter().eq(expected), "{answers:?}");
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "two of an account at a time"
    );
    // What is known already needs no look-up, and the rest goes on.
    assert_eq!(
        server.get(&format!("{}/metrics", server.plain)).await.0,
        200
    );
    drop(never);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    let server = Server::new("").await;
    let url = format!("{}/api/v1/devices", server.tls);
    let anonymous = server.client.get(&url).send().await.expect("answer");
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);
    let challenge = anonymous.headers()["www-authenticate"]
        .to_str()
        .expect("text");
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    let mut statuses = vec![];
    for _ in 0..5 {
        let wrong = server
            .client
            .get(&url)
            .basic_auth("alice@x.test", Some("wrong"));
        let answer = wrong.send().await.expect("answer");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            assert_eq!(answer.headers()["retry-after"], "300", "the whole window");
        }
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses[0], 401, "{statuses:?}");
    assert_eq!(statuses[4], 429, "{statuses:?}");
    let denied = connection::Connection {
        peer: crate::net::Peer {
            remote: "192.0.2.1:1000".parse().expect("valid"),
            local: "192.0.2.2:80".parse().expect("valid"),
        },
        tls: false,
    };
    assert!(!denied.may_carry_passwords());
    assert!(
        connection::Connection {
            tls: true,
            ..denied
        }
        .may_carry_passwords()
    );
    let loopback = crate::net::Peer {
        remote: "[::1]:1000".parse().expect("valid"),
        ..denied.peer
    };
    assert!(
        connection::Connection {
            peer: loopback,
            ..denied
        }
        .may_carry_passwords()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_metrics_and_careful_headers() {
    let server = Server::new("").await;
    for base in [&server.plain, &server.tls] {
        assert_eq!(
            server.get(&format!("{base}/healthz")).await,
            (StatusCode::OK, "ok\n".into())
        );
        let (status, _) = server.get(&format!("{base}/readyz")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    server.context.ready.store(true, Ordering::Release);
    let (status, text) = server.get(&format!("{}/readyz", server.plain)).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "ready\n"));
    server.get(&format!("{}/no/such/path", server.plain)).await;
    let answer = server
        .client
        .get(format!("{}/metrics", server.plain))
        .send()
        .await
        .expect("answer");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = answer.text().await.expect("text");
    for line in [
        "posthorn_http_requests_total{route=\"/healthz\",status=\"2xx\"} 2",
        "posthorn_http_requests_total{route=\"/readyz\",status=\"5xx\"} 2",
        "posthorn_http_requests_total{route=\"other\",status=\"4xx\"} 1",
        "posthorn_errors_total{kind=\"http\"} 0",
        "posthorn_errors_total{kind=\"panic\"} 0",
        "posthorn_push_devices{state=\"active\"} 0",
        "posthorn_push_outbox_entries 0",
        "posthorn_push_wakeups_total{outcome=\"gone\",transport=\"webpush\"} 0",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (status, _) = server.get(&format!("{}/metrics", server.tls)).await;
    assert_eq!(
        status,
        StatusCode::NOT_FOUND,
        "metrics are not for the public side"
    );
    let answer = server
        .client
        .get(format!("{}/healthz", server.tls))
        .send()
        .await
        .expect("answer");
    for name in [
        "strict-transport-security",
        "content-security-policy",
        "x-frame-options",
    ] {
        assert!(answer.headers().contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_for_browsers() {
    let server = Server::new("").await;
    let url = format!("{}/api/v1/push/vapid-key", server.tls);
    assert_eq!(server.get(&url).await.0, StatusCode::NOT_FOUND);
    let pair = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .expect("key");
    let put = Update::SettingPut("vapid-key".into(), pair.as_ref().to_vec());
    server.context.store.update(vec![put]).await.expect("put");
    let (status, text) = server.get(&url).await;
    let key: Value = serde_json::from_str(&text).expect("JSON");
    let key = key["applicationServerKey"].as_str().expect("text");
    assert_eq!((status, key.len()), (StatusCode::OK, 87));
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_in_order() {
    let server = Server::new("").await;
    let address = server
        .plain
        .strip_prefix("http://")
        .expect("plain")
        .to_owned();
    let mut idle = TcpStream::connect(&address).await.expect("connected");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.expect("answer");
    server.context.stop.cancel();
    let mut rest = Vec::new();
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, idle.read_to_end(&mut rest))
        .await
        .expect("closed")
        .expect("in order");
}
