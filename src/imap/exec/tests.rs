//! What large messages keep waiting, and whom they don't; what a client hears meanwhile.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::StoreConfig;
use crate::imap::capability::Enabled;
use crate::imap::fragment::{Event, Fragmenter, Limits};
use crate::imap::keys::Texts;
use crate::imap::parser::{Options, parse};
use crate::store::{Prepared, Recipient, Turn, Whose};
use crate::types::{AccountId, Address, Domain, UnixMillis};

/// Two accounts, each with one message of a megabyte, which is the second of three.
async fn store(dir: &std::path::Path) -> (Store, [AccountId; 2]) {
    let options = crate::store::Options {
        dir: dir.join("data"),
        config: StoreConfig {
            reserve_bytes: 0,
            ..StoreConfig::default()
        },
        subaddress_separator: '+',
    };
    let store = Store::open(options, Telemetry::new().unwrap()).unwrap();
    let domain = Domain::parse("x.test").unwrap();
    store.domain_add(domain).await.unwrap();
    let mut accounts = Vec::new();
    for name in ["a@x.test", "b@x.test"] {
        let address = Address::parse(name).unwrap();
        let account = store.account_add(address, "hash".into()).await.unwrap();
        accounts.push(account);
        for lines in [1, 40_000, 1] {
            let text = format!(
                "Subject: s\r\n\r\n{}",
                "some words and a line\r\n".repeat(lines)
            );
            let to = Recipient {
                account,
                mailbox: None,
                flags: vec![],
                prefix: vec![],
            };
            store
                .deliver(
                    Prepared::from_bytes(text.into_bytes().into()),
                    UnixMillis(1),
                    vec![to],
                )
                .await
                .unwrap();
        }
    }
    (store, [accounts[0], accounts[1]])
}

async fn stream() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    (Stream::Plain(server.unwrap().0), client.unwrap())
}

fn exec(store: &Store, account: AccountId) -> Exec {
    let inbox = store.mailboxes(account).unwrap();
    let inbox = store.mailbox(inbox.find("INBOX").unwrap().key).unwrap();
    Exec {
        store: store.clone(),
        telemetry: Telemetry::new().unwrap(),
        account: store.directory().account(account).unwrap().clone(),
        selected: Some(Selected::open(
            inbox,
            false,
            Enabled {
                rev2: true,
                ..Enabled::default()
            },
        )),
        enabled: Enabled::default(),
        append_limit: 1 << 20,
        message_limit: 0,
        limit_reached: None,
        config: Arc::new(Config::new("mail.example.com", "/x")),
        tag: String::new(),
        interrupted: false,
        keys: Arc::default(),
        key_cache_bytes: 1 << 20,
        watch: None,
        notify_limits: NotifyLimits {
            mailboxes: 10,
            events: 10,
        },
        arrived: Vec::new(),
        told_new: Vec::new(),
        max_contexts: 1,
        max_searched_mailboxes: 10,
    }
}

/// Everything that asks for the whole of a large message.
fn commands() -> Vec<String> {
    let many: Vec<String> = (0..100).map(|n| format!("NOT TEXT w{n}")).collect();
    vec![
        "SEARCH TEXT nowhere".into(),
        "SEARCH NOT BODY lines".into(),
        format!("SEARCH {}", many.join(" ")),
        "FETCH 1:* BODY.PEEK[1]<0.10>".into(),
    ]
}

async fn run(store: &Store, account: AccountId, text: &str) {
    let (mut stream, _client) = stream().await;
    let mut out = Out::new(&mut stream, Duration::from_secs(10));
    let mut exec = exec(store, account);
    exec.run(command(text), &mut out).await.unwrap();
}

fn command(command: &str) -> Tagged {
    let options = Options {
        max_depth: 10,
        utf8: false,
    };
    let limits = Limits {
        max_line: 10_000,
        max_literal: 10,
        max_non_sync: 10,
        max_literals_total: 10,
        max_append: 0,
    };
    let mut fragmenter = Fragmenter::new(limits);
    fragmenter.feed(format!("x {command}\r\n").as_bytes());
    let Event::Command(command) = fragmenter.next() else {
        panic!("{command}");
    };
    parse(&command, options).unwrap()
}

/// What is told in this time while a command is under way.
async fn told(tag: &str, at: Option<(u64, u64)>, every: Duration, takes: Duration) -> String {
    let (mut stream, mut client) = stream().await;
    let mut out = Out::new(&mut stream, Duration::from_secs(10));
    out.begin(tag, every);
    if let Some((done, goal)) = at {
        out.at(done, goal);
    }
    out.during(tokio::time::sleep(takes)).await.unwrap();
    out.flush().await.unwrap();
    drop(out);
    drop(stream);
    let mut told = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client, &mut told)
        .await
        .unwrap();
    told
}

/// RFC 9585, 4.
#[tokio::test]
async fn long_work_says_how_far_it_is() {
    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_millis(200);
    for (tag, at, code) in [
        ("A001", Some((454, 1000)), "(\"A001\" 454 1000)"),
        ("A003", None, "(\"A003\" NIL NIL)"),
        // Never that it is done, nor a bracket that ends the code.
        ("a", Some((1000, 1000)), "(\"a\" NIL NIL)"),
        ("a]b", Some((0, 1)), "(NIL 0 1)"),
    ] {
        let told = told(tag, at, SOON, LONG).await;
        let line = format!("* OK [INPROGRESS {code}] Still working");
        let lines: Vec<&str> = told.lines().collect();
        assert!(
            lines.len() > 1 && lines.iter().all(|l| *l == line),
            "{told}"
        );
    }
    assert_eq!(told("a", None, Duration::ZERO, SOON).await, "");
    assert_eq!(told("a", None, Duration::from_secs(60), SOON).await, "");
}

/// A command tells it before its answer, and in no answer (RFC 9585, 4).
#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_takes_long_says_so() {
    let home = tempfile::tempdir().unwrap();
    let (store, [a, _]) = store(home.path()).await;
    let held = store.large_reads().turn(Whose::Account(a)).await;
    let (mut stream, mut client) = stream().await;
    let searching = async {
        let mut exec = exec(&store, a);
        let mut config = Config::new("mail.example.com", "/x");
        config.imap.progress_secs = 1;
        exec.config = Arc::new(config);
        let mut out = Out::new(&mut stream, Duration::from_secs(10));
        let tagged = command("SEARCH BODY nowhere");
        exec.run(tagged, &mut out).await.unwrap();
    };
    let release = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        drop(held);
    };
    tokio::join!(searching, release);
    drop(stream);
    let mut told = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client, &mut told)
        .await
        .unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "* OK [INPROGRESS (\"x\" 2 3)] Still working",
            "* SEARCH",
            "x OK Searched"
        ]
    );
}

/// However much others changed, no more of it is held than a piece.
#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_told_in_pieces() {
    let home = tempfile::tempdir().unwrap();
    let (store, [a, _]) = store(home.path()).await;
    let to = Recipient {
        account: a,
        mailbox: None,
        flags: vec![],
        prefix: vec![],
    };
    let message = || Prepared::from_bytes("Subject: s\r\n\r\n".as_bytes().into());
    for _ in 0..4 {
        let all = vec![to.clone(); 1000];
        store.deliver(message(), UnixMillis(1), all).await.unwrap();
    }
    let (mut stream, mut client) = stream().await;
    let mut exec = exec(&store, a);
    let key = exec.selected.as_ref().unwrap().key;
    let seen = vec![crate::types::Flag::System(crate::types::SystemFlags::SEEN)];
    let all = UidSet::from_ranges([(1, 4003)]);
    let action = crate::store::FlagAction::Add;
    let stored = store.store_flags(key, all, action, seen, None).await;
    assert_eq!(stored.unwrap().changed.len(), 4003);
    let telling = async {
        let mut out = Out::new(&mut stream, Duration::from_secs(10));
        exec.announce(true, &mut out).await.unwrap();
        let held = out.buf.capacity();
        out.flush().await.unwrap();
        drop(stream);
        held
    };
    let mut told = String::new();
    let reading = tokio::io::AsyncReadExt::read_to_string(&mut client, &mut told);
    let (held, read) = tokio::join!(telling, reading);
    read.unwrap();
    assert_eq!(told.matches("FLAGS (\\Seen").count(), 4003);
    assert!(told.len() > 2 * PIECE && held <= 2 * PIECE, "{held}");
}

const WAIT: Duration = Duration::from_millis(200);

async fn waits(work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(WAIT, work).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_at_large_messages_waits_for_a_turn_and_not_for_one_account() {
    let home = tempfile::tempdir().unwrap();
    let (store, [a, b]) = store(home.path()).await;
    let turns = store.large_reads();
    let held = turns.turn(Whose::Account(a)).await;
    for command in commands() {
        assert!(waits(run(&store, a, &command)).await, "{command}");
        run(&store, b, &command).await;
    }
    drop(held);
    for command in commands() {
        run(&store, a, &command).await;
    }
    // Where all places are taken, everybody waits.
    let mut all: Vec<Turn> = Vec::new();
    for n in 100..104 {
        all.push(turns.turn(Whose::Account(AccountId(n))).await);
    }
    for command in commands() {
        assert!(waits(run(&store, b, &command)).await, "{command}");
    }
    drop(all);
    for command in commands() {
        run(&store, b, &command).await;
    }
}

/// FETCH of a whole mailbox's envelopes brings what the next SEARCH wants.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_searched_is_read_after_many_envelopes() {
    let home = tempfile::tempdir().unwrap();
    let (store, [a, _]) = store(home.path()).await;
    for _ in 0..9 {
        run(&store, a, "COPY 1:* INBOX").await;
    }
    let mut exec = exec(&store, a);
    let key = exec.selected.as_ref().unwrap().key;
    let fetch = |exec: Exec, range: &'static str| async move {
        let (mut stream, mut client) = stream().await;
        let all = tokio::spawn(async move {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut client, &mut all).await
        });
        let mut exec = exec;
        let mut out = Out::new(&mut stream, Duration::from_secs(10));
        let tagged = command(&format!("FETCH {range} ENVELOPE"));
        exec.run(tagged, &mut out).await.unwrap();
        drop(out);
        drop(stream);
        all.await.unwrap().unwrap();
        exec
    };
    let bases = [0, 3, 5];
    let known = |exec: &Exec| bases.map(|base| exec.keys.get::<Texts>(key, base).is_some());
    exec = fetch(exec, "1:900").await;
    // Where there is no room in plenty, nothing is read that nobody has asked for.
    exec.key_cache_bytes = 0;
    exec = fetch(exec, "1:*").await;
    assert_eq!(known(&exec), [false; 3]);
    exec.key_cache_bytes = 1 << 20;
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while known(&exec) != [true; 3] {
        assert!(std::time::Instant::now() < until, "they are never read");
        exec = fetch(exec, "1:*").await;
    }
}
