//! The notifier on a real store, with a push service on loopback that decrypts.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::service::webpush::crypto::tests::decrypt;
use super::*;
use crate::store::{
    ContentLevel, Device, DeviceKind, DeviceState, FlagAction, Options, OutboxEntry, OutboxKey,
    Prepared, Recipient, WakeSlot,
};
use crate::types::{Address, Domain, Flag, SystemFlags, UidSet, UnixMillis};

const PATIENCE: Duration = Duration::from_secs(20);

/// Path, headers and decrypted body.
type Push = (String, HeaderMap, Value);
/// Status and Retry-After of answers to come, the last first.
type Answers = Arc<parking_lot::Mutex<Vec<(u16, Option<&'static str>)>>>;

/// A phone with its push service.
struct Phone {
    key: Arc<PrivateKey>,
    origin: String,
    pushes: mpsc::UnboundedReceiver<Push>,
    answers: Answers,
}

#[derive(Clone)]
struct Service {
    key: Arc<PrivateKey>,
    pushes: mpsc::UnboundedSender<Push>,
    answers: Answers,
}

async fn pushed(
    State(service): State<Service>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let plain = decrypt(&body, &service.key, &[7; 16]);
    let json = serde_json::from_slice(&plain).expect("JSON");
    let (status, retry) = service.answers.lock().pop().unwrap_or((201, None));
    let _ = service.pushes.send((uri.path().to_owned(), headers, json));
    let mut headers = HeaderMap::new();
    if let Some(retry) = retry {
        headers.insert("retry-after", retry.parse().expect("value"));
    }
    headers.insert("location", "http://10.0.0.1/".parse().expect("value"));
    (StatusCode::from_u16(status).expect("status"), headers)
}

impl Phone {
    async fn new() -> Self {
        let key = Arc::new(PrivateKey::generate(&ECDH_P256).expect("key"));
        let (sender, pushes) = mpsc::unbounded_channel();
        let answers = Arc::default();
        let service = Service {
            key: key.clone(),
            pushes: sender,
            answers: Arc::clone(&answers),
        };
        let app = Router::new()
            .route("/{secret}", post(pushed))
            .with_state(service);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let origin = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            key,
            origin,
            pushes,
            answers,
        }
    }

    async fn next(&mut self) -> Push {
        tokio::time::timeout(PATIENCE, self.pushes.recv())
            .await
            .expect("in time")
            .expect("open")
    }

    fn device(&self, account: AccountId, state: DeviceState) -> Device {
        let public = self.key.compute_public_key().expect("key");
        Device {
            id: DeviceId(0),
            account,
            name: "phone".into(),
            kind: DeviceKind::WebPush {
                endpoint: format!("{}/secret", self.origin),
                p256dh: public.as_ref().to_vec(),
                auth: vec![7; 16],
                vapid_key: vec![],
            },
            state,
            show: ContentLevel::SenderSubject,
            created: UnixMillis(0),
            last_success: None,
            last_failure: None,
            last_error: None,
            failures: 0,
        }
    }
}

struct Server {
    store: Store,
    config: Arc<ArcSwap<Config>>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    account: AccountId,
    dir: tempfile::TempDir,
}

impl Server {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let text = format!(
            "hostname = 'mail.x.test'\ndata_dir = '{}'\n[push]\nallow_private = ['127.0.0.1/32:*']\nallow_http = true\ncoalesce_secs = 1",
            dir.path().display()
        );
        let config: Config = toml::from_str(&text).expect("valid");
        let telemetry = Telemetry::new().expect("metrics");
        let store = open(dir.path(), &config, &telemetry);
        store
            .domain_add(Domain::parse("x.test").expect("valid"))
            .await
            .expect("added");
        let account = store
            .account_add(
                Address::parse("alice@x.test").expect("valid"),
                "hash".into(),
            )
            .await
            .expect("added");
        Self {
            store,
            config: Arc::new(ArcSwap::from_pointee(config)),
            telemetry,
            stop: CancellationToken::new(),
            account,
            dir,
        }
    }

    async fn push(&self) -> Handle {
        start(
            self.store.clone(),
            self.config.clone(),
            self.telemetry.clone(),
            self.stop.clone(),
        )
        .await
        .expect("started")
    }

    async fn deliver(&self, subject: &str) -> crate::types::Uid {
        self.deliver_with("", subject).await
    }

    /// `headers`: whole lines.
    async fn deliver_with(&self, headers: &str, subject: &str) -> crate::types::Uid {
        let raw = format!("From: Bob <bob@y.test>\r\n{headers}Subject: {subject}\r\n\r\nHi\r\n");
        let to = Recipient {
            account: self.account,
            mailbox: None,
            flags: vec![],
            prefix: vec![],
        };
        let message = Prepared::from_bytes(raw.into_bytes().into());
        let delivered = self
            .store
            .deliver(message, UnixMillis(1), vec![to])
            .await
            .expect("delivered");
        delivered[0].uid
    }

    fn device(&self, id: DeviceId) -> Option<Device> {
        self.store.device(self.account, id).expect("read")
    }

    /// Waits until it is so.
    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let so = async {
            while !what(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, so).await.expect("in time");
    }

    /// Somebody reads these messages.
    async fn read(&self, read: &[crate::types::Uid]) {
        let inbox = self.store.mailboxes(self.account).expect("list");
        let inbox = inbox.find("INBOX").expect("there").key;
        let mut uids = UidSet::new();
        for uid in read {
            uids.insert(uid.0);
        }
        let seen = vec![Flag::System(SystemFlags::SEEN)];
        self.store
            .store_flags(inbox, uids, FlagAction::Add, seen, None)
            .await
            .expect("stored");
    }

    async fn outbox_is_empty(&self) {
        self.until(|s| s.store.outbox().expect("read").is_empty())
            .await;
    }
}

fn open(dir: &std::path::Path, config: &Config, telemetry: &Arc<Telemetry>) -> Store {
    let options = Options {
        dir: dir.to_owned(),
        config: config.store.clone(),
        subaddress_separator: config.smtp.subaddress_separator,
    };
    Store::open(options, telemetry.clone()).expect("opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_wakes_the_phone() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    let uid = server.deliver("=?utf-8?q?L=C3=BCnch=3F?=").await;
    let (path, headers, json) = phone.next().await;
    assert_eq!(path, "/secret");
    assert_eq!(json["t"], "mail");
    assert_eq!(
        (&json["a"], &json["m"]),
        (&"alice@x.test".into(), &"INBOX".into())
    );
    assert_eq!((&json["n"], &json["u"]), (&1.into(), &uid.0.into()));
    assert_eq!(
        (&json["from"], &json["subj"]),
        (&"Bob".into(), &"Lünch?".into())
    );
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("content-encoding"), "aes128gcm");
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("urgency"), "high");
    assert!((86_000..=86_400).contains(&header("ttl").parse::<u64>().expect("number")));
    assert_eq!(header("topic").len(), 16);
    assert!(header("authorization").starts_with("vapid t="));
    server.outbox_is_empty().await;
    server
        .until(|s| s.device(id).is_some_and(|d| d.last_success.is_some()))
        .await;
    let page = server.telemetry.text().expect("text");
    for line in [
        "posthorn_push_wakeups_total{outcome=\"delivered\",transport=\"webpush\"} 1",
        "posthorn_push_delivery_to_wake_seconds_count 1",
    ] {
        assert!(page.contains(line), "{line}");
    }
    assert_eq!(push.public_key().len(), 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_collected_and_the_read_ones_left_out() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let _push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    server.deliver("1").await;
    assert_eq!(phone.next().await.2["subj"], "1");
    server.deliver("2").await;
    server.deliver("3").await;
    let read = server.deliver("4").await;
    server.read(&[read]).await;
    let (_, _, json) = phone.next().await;
    assert_eq!((&json["subj"], &json["n"]), (&"3".into(), &2.into()));
    server.outbox_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_an_entry_lists_may_be_read_too() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let mut config = Config::clone(&server.config.load());
    config.push.coalesce_secs = 2;
    server.config.store(Arc::new(config));
    let _push = server.push().await;
    server.deliver("old, and never read").await;
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    server.deliver("first").await;
    while phone.next().await.2["subj"] != "first" {}
    let burst = async || {
        let mut uids = vec![];
        for _ in 0..OutboxEntry::MAX_UIDS + 8 {
            uids.push(server.deliver("burst").await);
        }
        uids
    };
    // All are read before the wake-up is due: nobody is woken for them.
    let uids = burst().await;
    server.read(&uids).await;
    server.outbox_is_empty().await;
    // All but one of the oldest, which the list has no room for.
    server.deliver("again").await;
    assert_eq!(phone.next().await.2["subj"], "again");
    let uids = burst().await;
    server.read(&uids[..1]).await;
    server.read(&uids[2..]).await;
    let (_, _, json) = phone.next().await;
    let said = (&json["subj"], &json["n"], &json["u"]);
    assert_eq!(said, (&"burst".into(), &1.into(), &uids[1].0.into()));
    server.outbox_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_test_found_is_in_the_store_when_it_is_told() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    for (failures, status) in [(1, 503), (2, 500), (0, 201), (1, 503)] {
        phone.answers.lock().push((status, None));
        let answer = push.test(server.account, id).await.expect("made");
        assert_eq!(answer.status, Some(status));
        let device = server.device(id).expect("there");
        assert_eq!(device.failures, failures, "{status}");
        phone.next().await;
    }
    phone.answers.lock().push((410, None));
    push.test(server.account, id).await.expect("made");
    assert_eq!(server.device(id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_trouble_gets_it_after_a_restart() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    phone.answers.lock().push((503, None));
    server.deliver("late").await;
    phone.next().await;
    server
        .until(|s| s.device(id).is_some_and(|d| d.failures == 1))
        .await;
    let failed = server.device(id).expect("kept");
    assert_eq!(failed.last_error.as_deref(), Some("service-trouble (503)"));
    let owed = server.store.outbox().expect("read");
    assert_eq!((owed.len(), owed[0].attempts), (1, 1));
    server.stop.cancel();
    push.stopped().await;
    // What comes while no notifier runs is owed as well.
    server.deliver("later").await;
    server.store.close().await;
    let config = server.config.load_full();
    let Server {
        dir,
        store,
        account,
        config: shared,
        ..
    } = server;
    drop(store);
    let telemetry = Telemetry::new().expect("metrics");
    let again = Server {
        store: open(dir.path(), &config, &telemetry),
        config: shared,
        telemetry,
        stop: CancellationToken::new(),
        account,
        dir,
    };
    let _push = again.push().await;
    let (_, _, json) = phone.next().await;
    assert_eq!((&json["n"], &json["subj"]), (&2.into(), &"later".into()));
    again.outbox_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_mail_ever_is_owed_too() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    // As after a crash between the commit and the notifier's first: it has no cursor.
    server.deliver("first").await;
    assert_eq!(
        server.store.cursor(crate::store::Worker::Push),
        Ok(None),
        "nothing was noted before"
    );
    let _push = server.push().await;
    assert_eq!(phone.next().await.2["subj"], "first");
    server.outbox_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_end_it() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    // The token is made anew once, and the payload made small once.
    phone
        .answers
        .lock()
        .extend([(201, None), (413, None), (401, None)]);
    server.deliver("long").await;
    let (first, second, third) = (phone.next().await, phone.next().await, phone.next().await);
    assert_ne!(first.1["authorization"], second.1["authorization"]);
    assert_eq!(second.2["subj"], "long");
    assert_eq!((third.2.get("subj"), &third.2["n"]), (None, &1.into()));
    server.outbox_is_empty().await;
    // A redirect into the internal network is not followed.
    phone.answers.lock().push((307, None));
    let answer = push.test(server.account, id).await.expect("possible");
    assert_eq!(answer.outcome, Outcome::Rejected(Rejection::Redirect));
    assert_eq!(phone.next().await.2["t"], "test");
    phone.answers.lock().push((410, None));
    let answer = push.test(server.account, id).await.expect("possible");
    assert_eq!((answer.outcome, answer.status), (Outcome::Gone, Some(410)));
    server.until(|s| s.device(id).is_none()).await;
    assert_eq!(push.test(server.account, id).await, Err(Untested::Later));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_gets_its_code_and_nothing_else() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let now = UnixMillis(now.as_millis() as u64);
    let expires = now.plus(1500);
    let state = DeviceState::Unverified {
        code: "the-code".into(),
        expires,
    };
    let device = phone.device(server.account, state);
    let id = server.store.device_add(device, 32).await.expect("added");
    let entry = OutboxEntry {
        key: OutboxKey {
            account: server.account,
            device: id,
            slot: WakeSlot::Verify,
        },
        uids: vec![],
        count: 1,
        caused: now,
        due: now,
        expires,
        attempts: 0,
    };
    server
        .store
        .update(vec![Update::OutboxPut(entry)])
        .await
        .expect("put");
    push.changed(server.account, id).await;
    server.deliver("secret").await;
    let (_, headers, json) = phone.next().await;
    assert_eq!(
        (&json["t"], &json["code"]),
        (&"verify".into(), &"the-code".into())
    );
    assert!(headers.get("topic").is_none());
    // The code does not come back: the device goes, and mail never reached it.
    server.until(|s| s.device(id).is_none()).await;
    assert!(phone.pushes.try_recv().is_err());
    server.outbox_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_stays_over_restarts() {
    let server = Server::new().await;
    let first = server.push().await;
    let second = server.push().await;
    assert_eq!(first.public_key(), second.public_key());
    server
        .store
        .update(vec![Update::SettingPut(VAPID_SETTING.into(), vec![1])])
        .await
        .expect("put");
    let damaged = start(
        server.store.clone(),
        server.config.clone(),
        server.telemetry.clone(),
        server.stop.clone(),
    );
    assert!(matches!(damaged.await, Err(StartError::Key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_host_is_remembered() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    phone.origin = format!("http://{}.invalid:8", "a".repeat(64));
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    server.deliver("nobody hears this").await;
    let kept = |s: &Server| {
        let kept = s.store.setting(LOST_SETTING).expect("store");
        planner::decode_lost(&kept.unwrap_or_default())
    };
    server
        .until(|s| kept(s).iter().any(|(to, _)| to.1 == id))
        .await;
    let noted = server.device(id).expect("kept");
    assert_eq!(noted.last_error.as_deref(), Some("no-such-host"));
    let remove = Update::DeviceRemove(server.account, id);
    server.store.update(vec![remove]).await.expect("removed");
    push.changed(server.account, id).await;
    server.until(|s| kept(s).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_urgent_of_a_batch_counts() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let _push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    let list = "List-Id: <l.y.test>\r\nPrecedence: bulk\r\n";
    server.deliver_with(list, "0").await;
    assert_eq!(phone.next().await.1["urgency"], "low");
    server.deliver("a person").await;
    server.deliver_with(list, "a list").await;
    let (_, headers, json) = phone.next().await;
    assert_eq!(json["subj"], "a list");
    assert_eq!(headers["urgency"], "high");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("bound");
    phone.origin = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move {
        let mut open = vec![];
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 100_000]).await;
            let head = b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n";
            let _ = stream.write_all(head).await;
            open.push(stream);
        }
    });
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    let test = push.test(server.account, id);
    let answer = tokio::time::timeout(PATIENCE, test).await.expect("in time");
    assert_eq!(answer.expect("made").outcome, Outcome::Delivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_waits_are_measured_below_a_millisecond() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let _push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    server.deliver("1").await;
    phone.next().await;
    server.outbox_is_empty().await;
    let page = server.telemetry.text().expect("text");
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix("posthorn_push_delivery_to_wake_seconds_sum "))
        .expect("there");
    let micros = line.parse::<f64>().expect("number") * 1e6;
    assert!(micros > 0.0 && (micros / 1000.0).fract() > 1e-6, "{line}");
    // A second message is read before its wake-up is due.
    let uid = server.deliver("2").await;
    let inbox = server.store.mailboxes(server.account).expect("list");
    let inbox = inbox.find("INBOX").expect("there").key;
    let mut uids = UidSet::new();
    uids.insert(uid.0);
    let seen = vec![Flag::System(SystemFlags::SEEN)];
    let stored = server
        .store
        .store_flags(inbox, uids, FlagAction::Add, seen, None);
    stored.await.expect("stored");
    let line = "posthorn_push_wakeups_total{outcome=\"settled\",transport=\"webpush\"} 1";
    server
        .until(|s| s.telemetry.text().expect("text").contains(line))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_waiting_tests_are_few() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    // Takes connections and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    phone.origin = format!("http://{}", listener.local_addr().expect("address"));
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    let id = server.store.device_add(device, 32).await.expect("added");
    let mut tests = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (push, account) = (push.clone(), server.account);
        tests.spawn(async move { push.test(account, id).await });
    }
    // One is under way and four wait.
    let soon = tokio::time::timeout(Duration::from_secs(3), tests.join_next());
    let refused = soon.await.expect("at once").expect("one").expect("ended");
    assert_eq!(refused, Err(Untested::Later));
    let next = tokio::time::timeout(Duration::from_secs(1), tests.join_next());
    assert!(next.await.is_err(), "the others wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_mail_after_a_reload_goes_by_the_new_settings() {
    let (server, mut phone) = (Server::new().await, Phone::new().await);
    let push = server.push().await;
    let device = phone.device(server.account, DeviceState::Active);
    server.store.device_add(device, 32).await.expect("added");
    // It waits for something to do, with the settings that it has seen.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut config = Config::clone(&server.config.load());
    config.push.ttl_secs = 600;
    server.config.store(Arc::new(config));
    server.deliver("soon over").await;
    let (_, headers, _) = phone.next().await;
    let ttl: u64 = headers["ttl"]
        .to_str()
        .expect("text")
        .parse()
        .expect("number");
    assert!((1..=600).contains(&ttl), "{ttl}");
    server.stop.cancel();
    push.stopped().await;
}
