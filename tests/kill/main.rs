//! `kill -9` in the middle of load, again and again: every message that was answered `250` is
//! there afterwards, byte for byte, once, with the UID that it had.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod actor;
mod chance;
mod client;
mod damage;
mod ledger;
mod look;
mod model;
mod rounds;
mod site;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Server, Smtp};
use posthorn::config::Config;
use posthorn::store::{ContentLevel, Device, DeviceKind, DeviceState, Options, Store};
use posthorn::telemetry::Telemetry;
use posthorn::types::{Address, DeviceId, UnixMillis};

/// What senders know: subject → message as sent; `acked` says whether it was answered 250.
#[derive(Default)]
struct Ledger {
    sent: HashMap<String, Vec<u8>>,
    acked: HashMap<String, bool>,
}

fn message(id: &str, seed: usize) -> Vec<u8> {
    let mut text =
        format!("From: k@example.net\r\nTo: alice@posthorn.test\r\nSubject: {id}\r\n\r\n");
    // From a few bytes to more than one blob chunk.
    let lines = [1, 3, 40, 700, 6000][seed % 5];
    for n in 0..lines {
        text.push_str(&format!(
            "{}line {n} of {id} with {:x}\r\n",
            if n % 7 == 0 { "." } else { "" },
            n * seed
        ));
    }
    text.into_bytes()
}

fn send_until(port: u16, name: &str, stop: &AtomicBool, ledger: &Mutex<Ledger>) {
    let Ok(mut smtp) = Smtp::connect(port) else {
        return;
    };
    if smtp.command("EHLO load.test").is_err() {
        return;
    }
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name}-{n}");
        let body = message(&id, n + name.len());
        ledger.lock().unwrap().sent.insert(id.clone(), body.clone());
        match smtp.deliver("k@example.net", &["alice@posthorn.test"], &body) {
            Ok(reply) if reply.starts_with("250") => {
                ledger.lock().unwrap().acked.insert(id, true);
            }
            Ok(reply) => panic!("refused: {reply}"),
            Err(_) => return,
        }
    }
}

/// Reads all of INBOX: UID → (subject, whole message).
fn inbox(server: &Server, from_uid: u32) -> Vec<(u32, String, Vec<u8>)> {
    let mut imap = server.imap("alice@posthorn.test");
    imap.ok("SELECT INBOX");
    imap.ok(&format!("UID FETCH {from_uid}:* (UID BODY.PEEK[])"))
        .into_iter()
        .filter(|l| l.text.contains("FETCH"))
        .map(|mut l| {
            let uid = l.text.split("UID ").nth(1).expect("UID");
            let uid = uid
                .split([' ', ')'])
                .next()
                .expect("UID")
                .parse()
                .expect("number");
            let raw = l.literals.remove(0);
            let text = String::from_utf8_lossy(&raw);
            let subject = text.split("Subject: ").nth(1).expect("Subject");
            let subject = subject.lines().next().unwrap_or_default().to_owned();
            (uid, subject, raw)
        })
        .filter(|(uid, ..)| *uid >= from_uid)
        .collect()
}

/// Gives bob a verified device at `endpoint`, while no server runs.
async fn add_device(dir: &std::path::Path, endpoint: String) {
    let config = Config::new("posthorn.test", dir);
    let options = Options {
        dir: dir.to_owned(),
        config: config.store,
        subaddress_separator: config.smtp.subaddress_separator,
    };
    let store = Store::open(options, Telemetry::new().unwrap()).expect("store");
    let bob = Address::parse("bob@posthorn.test").unwrap();
    let bob = store.directory().account_by_address(&bob).expect("bob").id;
    let key = aws_lc_rs::agreement::PrivateKey::generate(&aws_lc_rs::agreement::ECDH_P256).unwrap();
    let device = Device {
        id: DeviceId(0),
        account: bob,
        name: "phone".into(),
        kind: DeviceKind::WebPush {
            endpoint,
            p256dh: key.compute_public_key().unwrap().as_ref().to_vec(),
            auth: vec![7; 16],
            vapid_key: vec![],
        },
        state: DeviceState::Active,
        show: ContentLevel::WakeUpOnly,
        created: UnixMillis(0),
        last_success: None,
        last_failure: None,
        last_error: None,
        failures: 0,
    };
    store.device_add(device, 32).await.expect("device");
    store.close().await;
}

#[test]
fn the_first_wake_up_of_a_fresh_store_outlives_the_server() {
    for round in 0..8 {
        let home = tempfile::tempdir().expect("tempdir");
        let dir = home.path().join("data");
        let base = common::free_base();
        assert!(Server::start_at(&dir, base, &[]).stop().success());
        // A push service that takes requests and never answers.
        let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/device", service.local_addr().unwrap());
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(add_device(&dir, endpoint));
        let server = Server::start_at(&dir, base, &[]);
        // The committer has other things to do than to note the wake-up.
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..round % 4 * 2)
            .map(|n| {
                let (stop, port) = (stop.clone(), server.port(common::SMTP));
                let ledger = Mutex::default();
                std::thread::spawn(move || send_until(port, &format!("s{n}"), &stop, &ledger))
            })
            .collect();
        let mut smtp = server.smtp();
        let reply = smtp
            .deliver(
                "k@example.net",
                &["bob@posthorn.test"],
                b"Subject: 1\r\n\r\n1\r\n",
            )
            .expect("reply");
        assert!(reply.starts_with("250"), "{reply}");
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().expect("sender");
        }
        // What came before the kill does not count.
        service.set_nonblocking(true).unwrap();
        while service.accept().is_ok() {}
        let _server = Server::start_at(&dir, base, &[]);
        let until = std::time::Instant::now() + common::PATIENCE;
        while service.accept().is_err() {
            assert!(
                std::time::Instant::now() < until,
                "round {round}: nobody was woken"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The index's file with some bytes overwritten, again and again: sled may not notice, refuse to
/// open, or panic. The mailbox is complete in the end, without another restart.
#[test]
fn a_damaged_index_loses_nothing() {
    use std::os::unix::fs::FileExt;
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path().join("data");
    let base = common::free_base();
    let server = Server::start_at(&dir, base, &[]);
    let mut smtp = Smtp::connect(server.port(common::SMTP)).expect("connect");
    smtp.command("EHLO load.test").expect("EHLO");
    for n in 0..600 {
        let body = message(&format!("m{n}"), n);
        let reply = smtp.deliver("k@example.net", &["alice@posthorn.test"], &body);
        assert!(reply.expect("reply").starts_with("250"));
    }
    let before = inbox(&server, 1);
    assert_eq!(before.len(), 600);
    let mut server = Some(server);
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..12 {
        if let Some(server) = server.take() {
            // So that the index is on disk.
            std::thread::sleep(Duration::from_millis(1200));
            server.kill();
        }
        let newest = std::fs::read_dir(&dir)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("index") && !name.contains("bad")
            })
            .max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok())
            .expect("an index");
        let file = std::fs::File::options()
            .write(true)
            .open(newest.join("db"))
            .expect("db");
        let len = file.metadata().expect("metadata").len();
        for _ in 0..=round % 3 {
            let noise: Vec<u8> = (0..16).map(|_| random(256) as u8).collect();
            file.write_all_at(&noise, random(len)).expect("damage");
        }
        let started = Server::start_at(&dir, base, &[]);
        // Whoever finds damage may be told so once; then it is mended.
        let start = std::time::Instant::now();
        loop {
            let mut imap = started.imap("alice@posthorn.test");
            let (_, selected) = imap.command("SELECT INBOX");
            let (_, fetched) = imap.command("FETCH 1:* (UID BODY.PEEK[])");
            let well = [selected, fetched].iter().all(|reply| reply.contains("OK"));
            if well && inbox(&started, 1) == before {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "round {round}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server = Some(started);
    }
}
