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
    let limited = |most: usize| format!("max_connections = {most}\n{AUTH}");
    let mut serving = Serving::start(home.path(), &limited(2));
    let (mx, submission) = (serving.base + SMTP, serving.base + common::SUBMISSION);
    // One on each of the section's listeners: no more are taken on either.
    let (_, mut one) = admitted(mx);
    let (second, _two) = admitted(submission);
    assert!(second);
    for port in [mx, submission] {
        assert!(!admitted(port).0, "one past the limit");
    }
    // Another section has places of its own.
    let mut imap = Imap::connect(serving.base + IMAP).expect("IMAP");
    imap.ok(&format!("LOGIN alice@posthorn.test {PASSWORD}"));

    let text = configuration(serving.base, "data", &limited(3));
    let log = serving.reload(&text);
    assert!(log.contains("configuration read again"), "{log}");
    let (third, _three) = admitted(mx);
    assert!(third, "the new limit holds");
    assert!(!admitted(mx).0, "one past the new limit");

    // What needs a restart is named, and a broken file changes nothing.
    let moved = text.replace("[store]\n", "[store]\nopen_mailboxes = 7\n");
    let log = serving.reload(&moved);
    assert!(log.contains("only after a restart: [store]"), "{log}");
    let log = serving.reload(&text.replace("max_connections = 3", "max_connections = 0"));
    assert!(log.contains("can't be 0"), "{log}");
    assert!(!admitted(mx).0, "the limit is what it was");
    // And all that were there are there.
    let one = one.as_mut().expect("the first");
    assert!(one.command("NOOP").expect("reply").starts_with("250"));
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
