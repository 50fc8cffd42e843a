//! How near the store comes to a program that does nothing but append: messages of 4 KiB from 1
//! to 256 tasks into the store, then the very bytes of its log once more, in the same groups,
//! with an `fdatasync` after each, by one thread. In turns, on one disk; medians.
//!
//! `cargo bench --bench append`; `POSTHORN_BENCH_DIR` says on which disk, `POSTHORN_BENCH_ROUNDS`
//! how often.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use posthorn::config::Config;
use posthorn::store::{Change, Options, Prepared, Recipient, Store};
use posthorn::telemetry::Telemetry;
use posthorn::types::{AccountId, Address, Domain, LogPos, UnixMillis};

const ACCOUNTS: usize = 64;
const SIZE: usize = 4096;
/// Different texts, so that nothing profits from repetition.
const TEXTS: usize = 512;

/// Text of words, which compresses about as mail does.
fn message(n: usize) -> Vec<u8> {
    let mut state = n as u64 + 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = format!(
        "Return-Path: <k{n}@example.net>\r\nReceived: from mx.example.net by mail.bench.test\r\n\
         From: Somebody <k{n}@example.net>\r\nTo: user@bench.test\r\nSubject: message {n}\r\n\
         Message-ID: <{n}.bench@example.net>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    while text.len() < SIZE {
        for _ in 0..9 {
            let word = next();
            let letters =
                (0..3 + word % 6).map(|at| (b'a' + (word >> (8 * at) & 15) as u8) as char);
            text.extend(letters);
            text.push(' ');
        }
        text.push_str("\r\n");
    }
    text.into_bytes()
}

struct Run {
    rate: f64,
    groups: usize,
    bytes: u64,
}

/// Where bytes of the log lie, group by group.
type Groups = Vec<(PathBuf, std::ops::Range<u64>)>;

async fn filled(store: &Store, tasks: usize, count: usize, prepared: bool) -> f64 {
    let texts: Vec<bytes::Bytes> = (0..TEXTS).map(|n| message(n).into()).collect();
    let texts = Arc::new(texts);
    let accounts: Vec<AccountId> = store.directory().accounts().map(|a| a.id).collect();
    let next = Arc::new(AtomicUsize::new(0));
    let mut ready: Vec<Vec<Prepared>> = (0..tasks).map(|_| Vec::new()).collect();
    if prepared {
        for n in 0..count {
            ready[n % tasks].push(Prepared::from_bytes(texts[n % TEXTS].clone()));
        }
    }
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for mut ready in ready {
        let (store, texts, next) = (store.clone(), texts.clone(), next.clone());
        let accounts = accounts.clone();
        running.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let message = match ready.pop() {
                    Some(message) => message,
                    None if prepared || n >= count => return,
                    None => Prepared::from_bytes(texts[n % TEXTS].clone()),
                };
                let to = Recipient {
                    account: accounts[n % accounts.len()],
                    mailbox: None,
                    flags: vec![],
                    prefix: b"Delivered-To: user@bench.test\r\n".to_vec(),
                };
                let done = store.deliver(message, UnixMillis(1_800_000_000_000), vec![to]);
                done.await.expect("delivered");
            }
        });
    }
    running.join_all().await;
    count as f64 / started.elapsed().as_secs_f64()
}

/// The groups that have messages in them, as they lie in the log.
async fn groups(store: &Store, dir: &Path, count: usize) -> Groups {
    let mut feed = store.feed(Some(LogPos::default()));
    let (mut before, mut seen) = (LogPos::default(), 0);
    let mut all = Groups::new();
    while seen < count {
        let group = feed.next().await.expect("a group");
        seen += group
            .changes
            .iter()
            .filter(|c| matches!(c, Change::Arrived { .. }))
            .count();
        let from = match before.segment == group.end.segment {
            true => before.offset,
            false => 64,
        };
        before = group.end;
        let name = format!("seg-{:012}", group.end.segment);
        all.push((dir.join("log").join(name), from..group.end.offset));
    }
    // What was before the first message is none of it.
    all.remove(0);
    all
}

/// The bare program.
fn appended(dir: &Path, groups: &Groups) -> Duration {
    let mut bytes = Vec::with_capacity(groups.len());
    for (path, range) in groups {
        use std::os::unix::fs::FileExt;
        let mut group = vec![0; (range.end - range.start) as usize];
        let file = File::open(path).expect("segment");
        file.read_exact_at(&mut group, range.start).expect("read");
        bytes.push(group);
    }
    let path = dir.join("bare");
    let mut file = File::create(&path).expect("create");
    file.sync_all().expect("sync");
    let started = Instant::now();
    for group in &bytes {
        file.write_all(group).expect("write");
        file.sync_data().expect("sync");
    }
    let took = started.elapsed();
    std::fs::remove_file(path).expect("remove");
    took
}

fn round(on: &Path, tasks: usize, count: usize, prepared: bool) -> (Run, f64) {
    let dir = tempfile::tempdir_in(on).expect("tempdir");
    let data = dir.path().join("data");
    let config = Config::new("bench.test", &data);
    let options = Options {
        dir: data.clone(),
        config: config.store,
        subaddress_separator: '+',
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let store = Store::open(options, Telemetry::new().expect("telemetry")).expect("store");
        let domain = Domain::parse("bench.test").expect("domain");
        store.domain_add(domain).await.expect("domain");
        for n in 0..ACCOUNTS {
            let address = Address::parse(&format!("user{n}@bench.test")).expect("address");
            store
                .account_add(address, "x".into())
                .await
                .expect("account");
        }
        let rate = filled(&store, tasks, count, prepared).await;
        let groups = groups(&store, &data, count).await;
        store.close().await;
        let bare = appended(dir.path(), &groups);
        let run = Run {
            rate,
            groups: groups.len(),
            bytes: groups.iter().map(|(_, r)| r.end - r.start).sum(),
        };
        (run, count as f64 / bare.as_secs_f64())
    })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let rounds = std::env::var("POSTHORN_BENCH_ROUNDS")
        .ok()
        .and_then(|r| r.parse().ok());
    let on = std::env::var_os("POSTHORN_BENCH_DIR");
    let on = on.map_or(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let only: Option<usize> = std::env::var("POSTHORN_BENCH_TASKS")
        .ok()
        .and_then(|t| t.parse().ok());
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| tasks | messages | store /s | bare /s | ratio | messages a group | KiB a group |"
    )
    .unwrap();
    writeln!(out, "|---|---|---|---|---|---|---|").unwrap();
    for prepared in [false, true] {
        for (tasks, count) in [(1, 4000), (16, 30_000), (64, 50_000), (256, 50_000)] {
            if only.is_some_and(|only| only != tasks) {
                continue;
            }
            let mut all = Vec::new();
            for _ in 0..rounds.unwrap_or(5) {
                all.push(round(&on, tasks, count, prepared));
            }
            let store = median(all.iter().map(|(run, _)| run.rate).collect());
            let bare = median(all.iter().map(|(_, bare)| *bare).collect());
            let ratio = median(all.iter().map(|(run, bare)| run.rate / bare).collect());
            let groups: f64 = all.iter().map(|(run, _)| run.groups as f64).sum();
            let bytes: f64 = all.iter().map(|(run, _)| run.bytes as f64).sum();
            let messages = (count * all.len()) as f64 / groups;
            let kib = bytes / groups / 1024.0;
            let how = if prepared {
                "prepared"
            } else {
                "parsed, compressed"
            };
            writeln!(
                out,
                "| {tasks} | {how} | {store:.0} | {bare:.0} | {ratio:.2} | {messages:.1} | {kib:.1} |"
            )
            .unwrap();
        }
    }
}
