//! The full-text index: it never hides a message in which SEARCH would find the text, whatever
//! became of it, of its files, or of the messages.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::mail::{Needle, SearchScope, fold, search_text, trigrams};
use crate::store::sim::rng::Rng;

/// Texts in several scripts; the first ones are rare by what is done with them below.
const WORDS: [&str; 24] = [
    "quarterly",
    "report",
    "Gr\u{fc}\u{df}e",
    "Stra\u{df}e",
    "Zu\u{308}rich",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}",
    "\u{43c}\u{438}\u{440}",
    "\u{39f}\u{394}\u{39f}\u{3a3}",
    "\u{65e5}\u{672c}\u{8a9e}",
    "\u{6771}\u{4eac}",
    "\u{c548}\u{b155}\u{d558}\u{c138}\u{c694}",
    "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "\u{645}\u{631}\u{62d}\u{628}\u{627}",
    "\u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35}",
    "\u{1f600}\u{1f680}",
    "\u{fb01}nal",
    "\u{ff21}\u{ff22}\u{ff23}",
    "a<b",
    "x  y",
    "&amp;",
    "100\u{a0}km",
    "I\u{307}stanbul",
    "e-mail@x.test",
    "tail",
];

fn text(rng: &mut Rng, most: usize) -> String {
    let mut text = String::new();
    for _ in 0..=rng.below(most) {
        text.push_str(WORDS[rng.below(WORDS.len())]);
        text.push_str([" ", "  ", "\r\n", "\t", ""][rng.below(5)]);
    }
    text
}

fn quoted(text: &[u8], soft: bool) -> String {
    let mut out = String::new();
    for (n, byte) in text.iter().enumerate() {
        match byte {
            b'\r' | b'\n' if soft => out.push(char::from(*byte)),
            byte => out.push_str(&format!("={byte:02X}")),
        }
        if soft && n % 20 == 19 && *byte != b'\r' {
            out.push_str("=\r\n");
        }
    }
    out
}

fn part(rng: &mut Rng, depth: u32) -> String {
    let plain = text(rng, 12);
    match rng.below(if depth > 2 { 6 } else { 9 }) {
        0 => format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{plain}"),
        1 => format!(
            "Content-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            quoted(plain.as_bytes(), true)
        ),
        2 => format!(
            "Content-Type: text/plain; charset=utf-8; name=\"{}.txt\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}",
            text(rng, 1).replace(['\r', '\n'], " "),
            STANDARD.encode(&plain)
        ),
        3 => {
            let wide: Vec<u8> = plain.encode_utf16().flat_map(u16::to_be_bytes).collect();
            format!(
                "Content-Type: text/plain; charset=utf-16be\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n{}",
                STANDARD.encode(wide)
            )
        }
        4 => format!(
            "Content-Type: text/html; charset=utf-8\r\n\r\n<html><style>p {{ }}</style><p class=x>{}</p>",
            plain
                .replace(' ', " <b>\r\n")
                .replace('\t', "</b>&nbsp;&euro;")
        ),
        5 => format!("Content-Type: application/octet-stream\r\n\r\n{plain}"),
        6 => format!(
            "Content-Type: message/rfc822\r\n\r\n{}",
            message(rng, depth + 1)
        ),
        _ => {
            let boundary = format!("b{depth}");
            let mut all = format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n");
            for _ in 0..=rng.below(2) {
                all.push_str(&format!("--{boundary}\r\n{}\r\n", part(rng, depth + 1)));
            }
            all + &format!("--{boundary}--\r\n")
        }
    }
}

fn message(rng: &mut Rng, depth: u32) -> String {
    let subject = text(rng, 3).replace("\r\n", "\r\n ");
    let subject = match rng.below(3) {
        0 => subject,
        1 => format!(
            "=?utf-8?q?{}?=",
            quoted(subject.replace("\r\n", "").as_bytes(), false)
        ),
        _ => format!(
            "=?utf-8?B?{}?=\r\n {}",
            STANDARD.encode(subject.replace("\r\n", "")),
            WORDS[0]
        ),
    };
    format!(
        "From: \"{}\" <a@x.test>\r\nSubject: {subject}\r\nX-Number: {}\r\n{}",
        text(rng, 1).replace(['\r', '\n', '"'], ""),
        rng.below(1_000_000),
        part(rng, depth)
    )
}

/// Pieces of what may be there, and what is nowhere.
fn needle(rng: &mut Rng) -> String {
    let text: Vec<char> = text(rng, 4).chars().collect();
    let from = rng.below(text.len());
    let len = 1 + rng.below(10);
    let mut needle: String = text[from..text.len().min(from + len)].iter().collect();
    match rng.below(8) {
        0 => needle = format!("Subject: {needle}"),
        1 => needle.push_str("zzz"),
        2 => needle = needle.to_uppercase(),
        3 => needle = format!("<p class=x>{needle}"),
        _ => {}
    }
    needle
}

struct Mailbox {
    store: Store,
    key: MailboxKey,
}

impl Mailbox {
    fn all(&self) -> Vec<(Uid, String)> {
        let snapshot = self.store.mailbox(self.key).unwrap().snapshot();
        let raw = |uid| {
            let record = self.store.message(self.key, uid).unwrap().unwrap();
            let body = self
                .store
                .body_range(self.key, uid, record.blob, 0..u64::MAX);
            let raw = [&record.prefix[..], &body.unwrap()[..]].concat();
            String::from_utf8(raw).unwrap()
        };
        snapshot.iter().map(|(_, m)| (m.uid, raw(m.uid))).collect()
    }

    fn without(&self, needle: &str) -> Without {
        let numbers = Needle::new(SearchScope::Text, fold(needle)).trigrams();
        self.store
            .without_text(self.key, &[numbers], true)
            .remove(0)
    }

    /// How many messages of how many it knows to be without one of some texts.
    fn is_right(&self, rng: &mut Rng, needles: usize) -> u64 {
        let all = self.all();
        let mut spared = 0;
        for _ in 0..needles {
            let needle = needle(rng);
            let without = self.without(&needle);
            for (uid, raw) in &all {
                if without.contains(*uid) {
                    spared += 1;
                    for scope in [SearchScope::Text, SearchScope::Body] {
                        let found = search_text(raw.as_bytes(), scope, &fold(&needle));
                        assert!(!found, "{needle:?} is hidden in {uid}:\n{raw}");
                    }
                }
            }
        }
        spared
    }

    async fn add(&self, rng: &mut Rng, count: usize) {
        for _ in 0..count {
            let message = Prepared::from_bytes(Bytes::from(message(rng, 0)));
            self.store
                .append(self.key, message, vec![], UnixMillis(1), 0)
                .await
                .unwrap();
        }
    }

    async fn remove(&self, uids: UidSet) {
        let deleted = vec![Flag::System(SystemFlags::DELETED)];
        let store = &self.store;
        let marked = store.store_flags(self.key, uids, FlagAction::Add, deleted, None);
        marked.await.unwrap();
        store.expunge(self.key, None).await.unwrap();
    }

    /// Waits until all is in it but the newest, which are too few for a segment.
    fn settled(&self) {
        let uid_next = self
            .store
            .mailbox(self.key)
            .unwrap()
            .snapshot()
            .uid_next()
            .0;
        self.settled_to(uid_next - 1);
    }

    fn settled_to(&self, last: u32) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.store.shared().full_text.known_to(self.key) + 63 < last {
            assert!(Instant::now() < until, "the index does not come to {last}");
            self.without("some text");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn filled(dir: &Path, rng: &mut Rng, count: usize) -> Mailbox {
    let store = open(dir);
    let [a, _] = accounts(&store).await;
    let mailbox = Mailbox {
        key: key(&store, a, "INBOX"),
        store,
    };
    mailbox.add(rng, count).await;
    mailbox
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir.join("fulltext"));
    let files = files.map(|all| all.map(|file| file.unwrap().path()).collect());
    let mut files: Vec<_> = files.unwrap_or_default();
    files.sort();
    files
}

#[test]
fn nothing_is_hidden_in_any_script_or_encoding() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let mut rng = Rng::new(7);
        let mailbox = filled(dir.path(), &mut rng, 200).await;
        // Nobody has looked for anything.
        assert_eq!(files(dir.path()), Vec::<std::path::PathBuf>::new());
        assert_eq!(mailbox.is_right(&mut rng, 1), 0);
        mailbox.settled();
        let spared = mailbox.is_right(&mut rng, 400);
        assert!(spared > 400 * 200 / 3, "{spared}");
        // It says so of what is nowhere, and of what is in one message.
        mailbox.add(&mut rng, 63).await;
        let only = Prepared::from_bytes(Bytes::from("Subject: x\r\n\r\nA NeedleInHay."));
        let only = mailbox
            .store
            .append(mailbox.key, only, vec![], UnixMillis(1), 0);
        let only = only.await.unwrap().uid;
        mailbox.settled();
        assert_eq!(mailbox.without("no such thing").len(), 264);
        let without = mailbox.without("needleinhay");
        assert_eq!((without.len(), without.contains(only)), (263, false));
        // What is too short says nothing.
        assert!(mailbox.without("ne").is_empty());
        mailbox.store.close().await;
    });
}

#[test]
fn it_stays_right_when_messages_come_go_and_move() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let mut rng = Rng::new(8);
        let mailbox = filled(dir.path(), &mut rng, 100).await;
        let store = &mailbox.store;
        let other = store
            .mailbox_create(mailbox.key.account, "other", None)
            .await;
        other.unwrap();
        let other = Mailbox {
            store: store.clone(),
            key: key(store, mailbox.key.account, "other"),
        };
        for _ in 0..4 {
            mailbox.settled();
            let uids = mailbox.all().into_iter().map(|(uid, _)| uid.0);
            let some: UidSet = uids.filter(|_| rng.below(2) == 0).collect();
            let (moved, gone): (Vec<u32>, Vec<u32>) = some.iter().partition(|uid| uid % 3 == 0);
            let set = |uids: Vec<u32>| uids.into_iter().collect::<UidSet>();
            store.copy(mailbox.key, some, other.key).await.unwrap();
            store
                .move_messages(mailbox.key, set(moved), other.key)
                .await
                .unwrap();
            mailbox.remove(set(gone)).await;
            mailbox.add(&mut rng, 90).await;
            other.settled_to(64);
            mailbox.is_right(&mut rng, 30);
            other.is_right(&mut rng, 30);
        }
        // All of it goes, and what comes then is as if there had been nothing.
        let all: UidSet = mailbox.all().into_iter().map(|(uid, _)| uid.0).collect();
        mailbox.remove(all).await;
        mailbox.add(&mut rng, 100).await;
        mailbox.settled();
        assert!(mailbox.is_right(&mut rng, 50) > 0);
        // A mailbox that is deleted takes its index along.
        let of_other = |dir: &Path| {
            let name = format!("-{:08x}-", other.key.mailbox.0);
            let named = |path: &&std::path::PathBuf| path.to_string_lossy().contains(&name);
            files(dir).iter().filter(named).count()
        };
        assert!(of_other(dir.path()) > 0);
        store
            .mailbox_delete(mailbox.key.account, "other")
            .await
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while of_other(dir.path()) > 0 {
            assert!(
                Instant::now() < until,
                "the index of a mailbox that is gone stays"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        store.close().await;
    });
}

#[test]
fn it_is_there_after_a_restart_and_made_anew_where_it_can_not_be_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(9);
    let at = run(async {
        let mailbox = filled(dir.path(), &mut rng, 150).await;
        mailbox.settled();
        mailbox.add(&mut rng, 70).await;
        mailbox.settled();
        mailbox.store.close().await;
        mailbox.key
    });
    let whole = |rng: &mut Rng| {
        let mailbox = Mailbox {
            store: open(dir.path()),
            key: at,
        };
        let until = Instant::now() + Duration::from_secs(60);
        while mailbox.without("no such thing").len() < 220 - 63 {
            assert!(Instant::now() < until, "it is not made anew");
            mailbox.is_right(rng, 1);
            std::thread::sleep(Duration::from_millis(5));
        }
        mailbox.is_right(rng, 10);
        mailbox.store
    };
    let close = |store: Store| run(async move { store.close().await });
    let store = whole(&mut rng);
    assert_eq!(store.shared().telemetry.store.text_indexed_so_far(), 0);
    close(store);
    // Any byte of it, its end, and its name.
    for round in 0..24 {
        let found = files(dir.path());
        if found.is_empty() {
            // The last needle met the damage.
            close(whole(&mut rng));
            continue;
        }
        let path = &found[rng.below(found.len())];
        let mut bytes = std::fs::read(path).unwrap();
        let at = rng.below(bytes.len());
        match round % 4 {
            0 => bytes.truncate(at),
            1 => std::fs::remove_file(path).unwrap(),
            _ => bytes[at] ^= 1 << rng.below(8),
        }
        if round % 4 != 1 {
            std::fs::write(path, &bytes).unwrap();
        }
        close(whole(&mut rng));
    }
    files(dir.path())
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    close(whole(&mut rng));
    // One that is of another mailbox or of the past.
    let found = files(dir.path());
    let bytes = std::fs::read(&found[0]).unwrap();
    let name = found[0]
        .to_string_lossy()
        .replace("-00000001-", "-00000009-");
    std::fs::write(name, &bytes).unwrap();
    std::fs::write(dir.path().join("fulltext/x.tri.tmp"), &bytes).unwrap();
    close(whole(&mut rng));
    let left = files(dir.path());
    assert!(left.iter().all(|path| found.contains(path)), "{left:?}");
    // After a rebuild nobody can say what UIDs mean.
    let index = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in index.filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("index")
    }) {
        std::fs::remove_dir_all(path).unwrap();
    }
    let store = whole(&mut rng);
    assert_eq!(store.shared().telemetry.store.text_indexed_so_far(), 220);
    close(store);
    // Where it is switched off there is none.
    let mut off = options(dir.path());
    off.config.text_index = false;
    let store = Store::open(off, Telemetry::new().unwrap()).unwrap();
    assert!(store.without_text(at, &[trigrams("no such thing")], true)[0].is_empty());
    close(store);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn it_keeps_to_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let mut rng = Rng::new(10);
        let mut small = options(dir.path());
        small.config.text_index_mailbox_bytes = 256 * 1024;
        small.config.text_index_memory_bytes = 1024 * 1024;
        let store = Store::open(small, Telemetry::new().unwrap()).unwrap();
        let [a, _] = accounts(&store).await;
        let mailbox = Mailbox {
            key: key(&store, a, "INBOX"),
            store,
        };
        mailbox.add(&mut rng, 70).await;
        mailbox.settled();
        // Larger than what there is memory for, and a text that says too much.
        let large = format!("Subject: x\r\n\r\n{}", "words and words\r\n".repeat(70_000));
        let mut noise = String::from("Subject: x\r\n\r\n");
        for _ in 0..150_000 {
            noise.push(char::from_u32(0x3400 + rng.below(6000) as u32).unwrap());
        }
        for raw in [large, noise] {
            let message = Prepared::from_bytes(Bytes::from(raw));
            let append = mailbox
                .store
                .append(mailbox.key, message, vec![], UnixMillis(1), 0);
            append.await.unwrap();
        }
        mailbox.add(&mut rng, 62).await;
        mailbox.settled_to(70 + 64 + 63);
        let without = mailbox.without("no such thing");
        assert_eq!(without.len(), 132);
        assert!(!without.contains(Uid(71)) && !without.contains(Uid(72)));
        // It comes to its limit, and searches go on without more of it.
        let until = Instant::now() + Duration::from_secs(120);
        while !mailbox.store.shared().full_text.is_full(mailbox.key) {
            assert!(Instant::now() < until, "it grows and grows");
            let mut words = String::from("Subject: x\r\n\r\n");
            for _ in 0..2000 {
                words.push(char::from(b'a' + rng.below(26) as u8));
            }
            let message = Prepared::from_bytes(Bytes::from(words));
            let append = mailbox
                .store
                .append(mailbox.key, message, vec![], UnixMillis(1), 0);
            append.await.unwrap();
        }
        // What is too much goes right after it is known.
        let bytes = || -> u64 {
            let files = files(dir.path()).into_iter();
            files.filter_map(|f| Some(f.metadata().ok()?.len())).sum()
        };
        while bytes() > 256 * 1024 {
            assert!(Instant::now() < until, "{}", bytes());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(mailbox.is_right(&mut rng, 10) > 0);
        mailbox.store.close().await;
    });
}

/// While mail comes in and goes, and the index follows, every search is right.
#[test]
fn searches_are_right_while_mail_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut rng = Rng::new(11);
        let mailbox = Arc::new(filled(dir.path(), &mut rng, 100).await);
        let feeding = {
            let mailbox = mailbox.clone();
            tokio::spawn(async move {
                let mut rng = Rng::new(12);
                for round in 0..60 {
                    mailbox.add(&mut rng, 10).await;
                    let gone = UidSet::from_ranges([(round * 7, round * 7 + 3)]);
                    mailbox.remove(gone).await;
                }
            })
        };
        let mut spared = 0;
        while !feeding.is_finished() {
            let needle = needle(&mut rng);
            let without = mailbox.without(&needle);
            let snapshot = mailbox.store.mailbox(mailbox.key).unwrap().snapshot();
            for (_, message) in snapshot.iter().filter(|(_, m)| without.contains(m.uid)) {
                let Some(record) = mailbox.store.message(mailbox.key, message.uid).unwrap() else {
                    continue;
                };
                let body =
                    mailbox
                        .store
                        .body_range(mailbox.key, message.uid, record.blob, 0..u64::MAX);
                if let Ok(raw) = body {
                    spared += 1;
                    let found = search_text(&raw, SearchScope::Text, &fold(&needle));
                    assert!(!found, "{needle:?} is hidden in {}", message.uid);
                }
            }
            tokio::task::yield_now().await;
        }
        feeding.await.unwrap();
        mailbox.settled_to(640);
        spared += mailbox.is_right(&mut rng, 20);
        assert!(spared > 0);
        mailbox.store.close().await;
    });
}
