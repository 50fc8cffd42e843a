//! The demo's phone and its push service: shows that a wake-up arrives, decrypted for real.
//!
//! May import: app, store, types. It stands outside the server: it registers over the HTTP API
//! as a browser would, and its decryption (RFC 8291, RFC 8188) and its check of the sender's
//! token (RFC 8292) are its own, so that a mistake of the sender can't cancel out here.

mod receiver;

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use crate::store::{Change, Source, Store};
use crate::types::{AccountId, Address, Uid};
use receiver::Receiver;

/// What the phone is called in the list of devices.
const NAME: &str = "demo phone";
/// RFC 8291, 4: a push message is at most 4096 bytes.
const MAX_PUSH: usize = 4096;
/// Deliveries whose time is remembered until their wake-up comes.
const MAX_DELIVERIES: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose phone it is, and how it reaches the server.
pub(super) struct Owner {
    pub address: Address,
    pub account: AccountId,
    pub password: String,
    pub http: SocketAddr,
    pub json: bool,
}

/// One wake-up's content; unknown keys are ignored.
#[derive(Debug, Deserialize)]
struct Wakeup {
    t: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    m: String,
    #[serde(default)]
    n: u32,
    #[serde(default)]
    u: u32,
    #[serde(default)]
    from: String,
    #[serde(default)]
    subj: String,
}

struct Phone {
    owner: Owner,
    receiver: Receiver,
    /// The capability in the endpoint's path.
    path: String,
    origin: String,
    deliveries: Mutex<VecDeque<(Uid, Instant)>>,
    delivered: Notify,
    codes: mpsc::Sender<String>,
}

/// Starts the push service, registers the phone and waits until it is verified. From then on
/// each wake-up is a line on standard output.
pub(super) async fn start(owner: Owner, store: Store) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(|error| format!("push service: {error}"))?;
    let local = listener
        .local_addr()
        .map_err(|error| format!("push service: {error}"))?;
    let secret: [u8; 16] = random()?;
    let (codes, mut code) = mpsc::channel(1);
    let phone = Arc::new(Phone {
        owner,
        receiver: Receiver::new()?,
        path: URL_SAFE_NO_PAD.encode(secret),
        origin: format!("http://{local}"),
        deliveries: Mutex::new(VecDeque::new()),
        delivered: Notify::new(),
        codes,
    });
    let service = Router::new()
        .route("/push/{capability}", post(pushed))
        .layer(DefaultBodyLimit::max(MAX_PUSH))
        .with_state(phone.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::warn!(%error, "the demo's push service ended");
        }
    });
    tokio::spawn(watch(phone.clone(), store));

    let api = Api::new(&phone.owner)?;
    api.forget_old().await?;
    let id = api.register(&phone).await?;
    let code = tokio::time::timeout(PATIENCE, code.recv())
        .await
        .ok()
        .flatten()
        .ok_or("no verification code was pushed to the demo phone")?;
    api.verify(id, &code).await
}

/// Remembers when each delivery was committed, which is when its `250` goes out.
async fn watch(phone: Arc<Phone>, store: Store) {
    let mut feed = store.feed(None);
    while let Ok(committed) = feed.next().await {
        let now = Instant::now();
        let since = store.since_commit(committed.at);
        let moment = now.checked_sub(since).unwrap_or(now);
        let mut deliveries = phone.deliveries.lock();
        for change in committed.changes.iter() {
            if let Change::Arrived {
                mailbox,
                uid,
                source: Source::Delivery,
                ..
            } = change
                && mailbox.account == phone.owner.account
            {
                deliveries.push_back((*uid, moment));
                if deliveries.len() > MAX_DELIVERIES {
                    deliveries.pop_front();
                }
            }
        }
        drop(deliveries);
        phone.delivered.notify_waiters();
    }
}

/// The push service's answer to one push (RFC 8030, 5).
async fn pushed(
    State(phone): State<Arc<Phone>>,
    Path(capability): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let arrived = Instant::now();
    if capability != phone.path {
        return StatusCode::NOT_FOUND;
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if header("content-encoding") != Some("aes128gcm") || header("ttl").is_none() {
        return StatusCode::BAD_REQUEST;
    }
    let authorized = header("authorization")
        .is_some_and(|value| receiver::sender_is_genuine(value, &phone.origin));
    if !authorized {
        return StatusCode::UNAUTHORIZED;
    }
    let wakeup = phone
        .receiver
        .decrypt(&body)
        .and_then(|plain| serde_json::from_slice::<Wakeup>(&plain).ok());
    match wakeup {
        // The answer does not wait for what is printed.
        Some(wakeup) => {
            tokio::spawn(async move { phone.woken(wakeup, arrived).await });
        }
        None => tracing::warn!("the demo phone could not decrypt a push"),
    }
    StatusCode::CREATED
}

impl Phone {
    async fn woken(&self, wakeup: Wakeup, at: Instant) {
        if wakeup.t == "verify" {
            let _ = self.codes.try_send(wakeup.code);
            return;
        }
        let name = self.owner.address.local();
        if wakeup.t != "mail" {
            let kind = plain(&wakeup.t);
            if self.owner.json {
                say(&serde_json::json!({ "woke": name, "kind": kind }).to_string());
            } else {
                say(&format!("phone of {name} woke: {kind}"));
            }
            return;
        }
        let took = self.since_commit(Uid(wakeup.u), at).await;
        let millis = took.map(|took| took.as_secs_f64() * 1000.0);
        if self.owner.json {
            let line = serde_json::json!({
                "woke": name,
                "kind": "mail",
                "from": wakeup.from,
                "subject": wakeup.subj,
                "mailbox": wakeup.m,
                "messages": wakeup.n,
                "millis": millis,
            });
            return say(&line.to_string());
        }
        let from = match wakeup.from.as_str() {
            "" => "somebody".into(),
            from => plain(from),
        };
        let more = match wakeup.n {
            0 | 1 => String::new(),
            n => format!(" ({n} messages)"),
        };
        let took = millis.map_or_else(
            || "late".to_owned(),
            |millis| match millis {
                0.0..1000.0 => format!("{millis:.1} ms after 250"),
                // The first wake-up is sent at once; what follows it soon is collected.
                _ => format!("{:.1} s after 250, collected", millis / 1000.0),
            },
        );
        say(&format!(
            "phone of {name} woke: from {from}, mailbox {}{more}, {took}",
            plain(&wakeup.m)
        ));
    }

    /// The push may be faster than the news of its own delivery. None: it is of an earlier run.
    async fn since_commit(&self, uid: Uid, at: Instant) -> Option<Duration> {
        let committed = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                let news = self.delivered.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(moment) = self.forget(uid) {
                    return moment;
                }
                news.await;
            }
        });
        let committed = committed.await.ok()?;
        Some(at.saturating_duration_since(committed))
    }

    fn forget(&self, uid: Uid) -> Option<Instant> {
        let mut deliveries = self.deliveries.lock();
        let place = deliveries.iter().position(|(known, _)| *known == uid)?;
        deliveries.remove(place).map(|(_, moment)| moment)
    }
}

/// The server's device API, used as any program would.
struct Api<'a> {
    http: reqwest::Client,
    base: String,
    owner: &'a Owner,
}

#[derive(Deserialize)]
struct Listed {
    devices: Vec<ListedDevice>,
}

#[derive(Deserialize)]
struct ListedDevice {
    id: u32,
    #[serde(default)]
    name: String,
}

impl<'a> Api<'a> {
    fn new(owner: &'a Owner) -> Result<Self, String> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            base: format!("http://{}/api/v1/devices", owner.http),
            owner,
        })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, String> {
        let login = self.owner.address.to_string();
        let answer = request
            .basic_auth(login, Some(&self.owner.password))
            .send()
            .await
            .map_err(|error| format!("device API: {error}"))?;
        let status = answer.status();
        let body = answer
            .bytes()
            .await
            .map_err(|error| format!("device API: {error}"))?;
        if status.is_success() {
            Ok(body.to_vec())
        } else {
            Err(format!(
                "device API: {status} {}",
                plain(&String::from_utf8_lossy(&body))
            ))
        }
    }

    /// The phone of an earlier run has lost its keys.
    async fn forget_old(&self) -> Result<(), String> {
        let body = self.send(self.http.get(&self.base)).await?;
        let listed: Listed =
            serde_json::from_slice(&body).map_err(|error| format!("device API: {error}"))?;
        for device in listed.devices.iter().filter(|d| d.name == NAME) {
            let url = format!("{}/{}", self.base, device.id);
            self.send(self.http.delete(url)).await?;
        }
        Ok(())
    }

    async fn register(&self, phone: &Phone) -> Result<u32, String> {
        let body = serde_json::json!({
            "name": NAME,
            "subscription": {
                "endpoint": format!("{}/push/{}", phone.origin, phone.path),
                "expirationTime": null,
                "keys": {
                    "p256dh": URL_SAFE_NO_PAD.encode(phone.receiver.public()),
                    "auth": URL_SAFE_NO_PAD.encode(phone.receiver.auth()),
                },
            },
        });
        let answer = self.send(self.http.post(&self.base).json(&body)).await?;
        serde_json::from_slice::<ListedDevice>(&answer)
            .map(|device| device.id)
            .map_err(|error| format!("device API: {error}"))
    }

    async fn verify(&self, id: u32, code: &str) -> Result<(), String> {
        let url = format!("{}/{id}/verify", self.base);
        let body = serde_json::json!({ "code": code });
        self.send(self.http.post(url).json(&body)).await.map(drop)
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no randomness".to_owned())?;
    Ok(bytes)
}

/// Senders choose these texts; no control character of theirs reaches the terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
