//! `posthorn serve`: signals, reloads, the service manager, the admin socket.

#![allow(clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::cli::Cli;
use common::serve::{AUTH, Serving, configuration, signal};
use common::{IMAP, Imap, PASSWORD, PATIENCE, SMTP, Smtp};

#[test]
fn silent_connections_do_not_hinder_the_administrator() {
    let home = tempfile::tempdir().expect("tempdir");
    let more = format!("{AUTH}[limits]\nadmin_connections = 2\n");
    let serving = Serving::start(home.path(), &more);
    let socket = home.path().join("data/admin.sock");
    let begun = Instant::now();
    let mut silent = Vec::new();
    // Many times what may be served at a time, some with half a request.
    for n in 0..20 {
        let mut stream = UnixStream::connect(&socket).expect("admin.sock");
        if n % 2 == 0 {
            std::io::Write::write_all(&mut stream, b"{\"op\":").expect("write");
        }
        silent.push(stream);
        if n % 5 == 0 {
            serving.cli.ok(&["account", "list"], "");
        }
    }
    serving.cli.ok(&["account", "list"], "");
    // admin_timeout_secs is 60: nobody waited for that.
    assert!(begun.elapsed() < Duration::from_secs(30));
    // The newest are still there, the oldest had to go.
    let ended = |stream: &mut UnixStream| {
        stream.set_nonblocking(true).expect("nonblocking");
        let read = std::io::Read::read(stream, &mut [0; 1]);
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(ended(&mut silent[0]));
    let last = silent.last_mut().expect("last");
    assert!(!ended(last));
    // One that asks in the end is served.
    last.set_nonblocking(false).expect("blocking");
    last.set_read_timeout(Some(PATIENCE)).expect("timeout");
    std::io::Write::write_all(last, b"{\"op\":\"status\"}\n").expect("write");
    let mut text = String::new();
    std::io::Read::read_to_string(last, &mut text).expect("answer");
    assert!(text.starts_with("{\"ok\":"), "{text}");
}

#[test]
fn a_data_dir_may_be_longer_than_a_socket_s_path() {
    let home = tempfile::tempdir().expect("tempdir");
    let long = home.path().join("d".repeat(120));
    std::fs::create_dir(&long).expect("mkdir");
    let serving = Serving::start(&long, AUTH);
    assert!(long.join("data/admin.sock").exists());
    let status = serving.cli.ok(&["status"], "");
    assert_eq!(status["status"]["running"], true);
    assert!(serving.stop().success());
    assert!(!long.join("data/admin.sock").exists());
}

/// The messages that come until one has `last`.
fn told(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("a message");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let end = text.contains(last);
        all.push(text);
        if end {
            return all;
        }
    }
}

#[test]
fn the_service_manager_hears_what_goes_on() {
    let home = tempfile::tempdir().expect("tempdir");
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let base = common::free_base();
    let cli = Cli {
        config: home.path().join("posthorn.toml"),
    };
    std::fs::write(&cli.config, configuration(base, "data", AUTH)).expect("write");
    let serving = Serving::launch(home.path(), base, cli, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    let started = told(&socket, "READY=1");
    // It asks for time before it opens the store, which may take long.
    assert!(started[0].contains("EXTEND_TIMEOUT_USEC="), "{started:?}");
    serving.signal("HUP");
    let reloaded = told(&socket, "READY=1");
    assert!(reloaded[0].contains("RELOADING=1"), "{reloaded:?}");
    assert!(reloaded[0].contains("MONOTONIC_USEC="), "{reloaded:?}");
    serving.signal("TERM");
    let stopped = told(&socket, "EXTEND_TIMEOUT_USEC=");
    assert!(stopped[0].contains("STOPPING=1"), "{stopped:?}");
    assert!(serving.ended().success());
}

/// Connected, and whether there was a place.
fn admitted(port: u16) -> (bool, Option<Smtp>) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut code = [0; 3];
    std::io::Read::read_exact(&mut stream, &mut code).expect("greeting");
    if code == *b"421" {
        return (false, None);
    }
    assert_eq!(code, *b"220");
    let mut smtp = Smtp {
        stream: std::io::BufReader::new(stream),
    };
    std::io::BufRead::read_line(&mut smtp.stream, &mut String::new()).expect("greeting");
    (true, Some(smtp))
}

#[test]
fn limits_are_of_a_section_and_a_reload_changes_them() {
    let home = tempfile::tempdir().expect("tempdir");
    let limited = |base: u16, most: usize| {
        // A second listener of submission, in the clear: only its places matter.
        let (one, two) = (base + common::SUBMISSION, base + common::SUBMISSIONS);
        let text = configuration(base, "data", &format!("max_connections = {most}\n{AUTH}"));
        text.replace(
            &format!("listen_submission = [\"127.0.0.1:{one}\"]"),
            &format!("listen_submission = [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]"),
        )
    };
    let mut serving = Serving::start_with(home.path(), |base| limited(base, 2));
    let (mx, submission) = (serving.base + SMTP, serving.base + common::SUBMISSION);
    let implicit = serving.base + common::SUBMISSIONS;
    let (_, mut one) = admitted(mx);
    let (second, _two) = admitted(mx);
    assert!(second);
    assert!(!admitted(mx).0, "one past the limit");
    // Other servers take no places of users, who share theirs between all their listeners.
    let (_, mut user) = admitted(submission);
    let (second, _other_user) = admitted(implicit);
    assert!(second);
    for port in [submission, implicit] {
        assert!(!admitted(port).0, "one past the limit");
    }
    // Another section has places of its own.
    let mut imap = Imap::connect(serving.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN alice@posthorn.test {PASSWORD}"));

    let text = limited(serving.base, 3);
    let log = serving.reload(&text);
    assert!(log.contains("configuration read again"), "{log}");
    let (third, _three) = admitted(mx);
    assert!(third, "the new limit holds");
    assert!(!admitted(mx).0, "one past the new limit");
    let (third, _third_user) = admitted(implicit);
    assert!(third, "the new limit holds");
    assert!(!admitted(submission).0, "one past the new limit");

    // What needs a restart is named, and a broken file changes nothing.
    let moved = text.replace("[store]\n", "[store]\nopen_mailboxes = 7\n");
    let log = serving.reload(&moved);
    assert!(log.contains("only after a restart: [store]"), "{log}");
    let log = serving.reload(&text.replace("max_connections = 3", "max_connections = 0"));
    assert!(log.contains("can't be 0"), "{log}");
    assert!(!admitted(mx).0, "the limit is what it was");
    // And all that were there are there.
    for one in [&mut one, &mut user] {
        let one = one.as_mut().expect("the first");
        assert!(one.command("NOOP").expect("reply").starts_with("250"));
    }
    imap.ok("NOOP");
    assert!(serving.stop().success());
}

#[test]
fn told_to_stop_while_it_starts_it_stops() {
    let home = tempfile::tempdir().expect("tempdir");
    let base = common::free_base();
    let config = home.path().join("posthorn.toml");
    std::fs::write(&config, configuration(base, "data", AUTH)).expect("write");
    // At any moment of its start, some of them behind it.
    for micros in (0..40_000).step_by(2_500) {
        let child = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.expect("posthorn starts");
        std::thread::sleep(Duration::from_micros(micros));
        signal(&child, "TERM");
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            assert!(Instant::now() < until, "it goes on after {micros} µs");
            std::thread::sleep(Duration::from_millis(2));
        };
        // Before it listens to signals the system ends it.
        use std::os::unix::process::ExitStatusExt;
        assert!(
            status.success() || status.signal() == Some(15),
            "{status} after {micros} µs"
        );
    }
    // Whatever was left behind, the next one starts.
    let cli = Cli { config };
    let serving = Serving::launch(home.path(), base, cli, |_| {});
    assert!(serving.stop().success());
}

#[test]
fn what_the_server_makes_is_its_user_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().expect("tempdir");
    let base = common::free_base();
    let cli = Cli {
        config: home.path().join("posthorn.toml"),
    };
    std::fs::write(&cli.config, configuration(base, "data", AUTH)).expect("write");
    let config = cli.config.clone();
    let serving = Serving::launch(home.path(), base, cli, |command| {
        let mut open = Command::new("sh");
        open.args(["-c", "umask 000; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_posthorn"))
            .args(["serve", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log = std::fs::File::create(home.path().join("log")).expect("log");
        open.stderr(log);
        *command = open;
    });
    serving.cli.ok(&["domain", "add", "club.test"], "");
    let mut names = Vec::new();
    let mut todo = vec![home.path().join("data")];
    while let Some(path) = todo.pop() {
        let metadata = std::fs::symlink_metadata(&path).expect("metadata");
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        names.push(name(&path));
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("dir");
            todo.extend(entries.map(|entry| entry.expect("entry").path()));
        }
    }
    for expected in ["admin.sock", "key.pem", "lock", "log", "store-id"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    assert!(serving.stop().success());
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("name");
    name.to_string_lossy().into_owned()
}

#[test]
fn a_nearly_full_disk_is_seen_from_outside() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    let base = server.base;
    let get = |path: &str| common::http_get(base + common::HTTP, path).expect("answer");
    assert!(get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains("\nposthorn_store_takes_mail 1\n"));
    let config = server.cli.config.clone();
    assert!(server.stop().success());
    // More than any disk has.
    let text = configuration(base, "data", AUTH);
    let text = text.replace(
        "reserve_bytes = 0",
        "reserve_bytes = 1125899906842624\nreserve_percent = 100",
    );
    std::fs::write(&config, text).expect("write");
    let server = Serving::launch(home.path(), base, Cli { config }, |_| {});
    let answer = get("/readyz");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("the disk is nearly full\n"), "{answer}");
    let metrics = get("/metrics");
    assert!(metrics.contains("\nposthorn_store_takes_mail 0\n"));
    assert!(metrics.contains("\nposthorn_store_writable 1\n"));
    let status = server.cli.run(&["status"], "").out;
    assert!(status.contains("mail is refused for now"), "{status}");
    let mut smtp = Smtp::connect(base + SMTP).expect("SMTP");
    smtp.command("EHLO client.test").expect("EHLO");
    let reply = smtp.command("MAIL FROM:<a@x.test>").expect("reply");
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
}

#[test]
fn a_full_mailbox_is_told_before_the_message() {
    let home = tempfile::tempdir().expect("tempdir");
    let server = Serving::start(home.path(), AUTH);
    let (base, config) = (server.base, server.cli.config.clone());
    assert!(server.stop().success());
    let text = configuration(base, "data", AUTH);
    let text = text.replace("[store]", "[store]\nmax_messages_per_mailbox = 100");
    std::fs::write(&config, text).expect("write");
    let _server = Serving::launch(home.path(), base, Cli { config }, |_| {});
    let mut imap = Imap::connect(base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN alice@posthorn.test {PASSWORD}"));
    let append = |imap: &mut Imap| {
        imap.send(b"a APPEND INBOX {14+}\r\nSubject: s\r\n\r\n\r\n");
        imap.until("a").1
    };
    assert!(append(&mut imap).contains("OK"));
    imap.ok("SELECT INBOX");
    for set in ["1:*", "1:*", "1:*", "1:*", "1:*", "1:*", "1:36"] {
        imap.ok(&format!("COPY {set} INBOX"));
    }
    for refused in [append(&mut imap), imap.command("COPY 7 INBOX").1] {
        assert!(refused.contains("NO [OVERQUOTA]"), "{refused}");
    }
    let mut smtp = Smtp::connect(base + SMTP).expect("SMTP");
    for (line, answer) in [
        ("EHLO client.test", "250"),
        ("MAIL FROM:<a@x.test>", "250"),
        ("RCPT TO:<alice@posthorn.test>", "452 4.2.2"),
        ("RCPT TO:<bob@posthorn.test>", "250"),
    ] {
        let reply = smtp.command(line).expect("reply");
        assert!(reply.starts_with(answer), "{line}: {reply}");
    }
}
