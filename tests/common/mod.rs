//! What the tests with the real binary share: a server in a directory of its own, and small
//! SMTP and IMAP clients that show every byte.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
#![allow(dead_code, unreachable_pub)]

pub mod cli;
pub mod serve;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub const PASSWORD: &str = "posthorn-demo";

/// Nothing on loopback takes this long; it only keeps a broken test from hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running `posthorn demo`.
pub struct Server {
    pub child: Child,
    pub base: u16,
}

/// Ports of the demo, as offsets from its base.
pub const SMTP: u16 = 525;
pub const SUBMISSION: u16 = 587;
pub const SUBMISSIONS: u16 = 465;
pub const IMAP: u16 = 143;
pub const IMAPS: u16 = 993;
pub const HTTP: u16 = 80;
pub const HTTPS: u16 = 443;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Bases are a thousand apart, and twenty beside each of those: no two share a port, and all
/// are below those that the system gives to clients.
const BASES: u16 = 22 * 20;

/// The bases of this process, locked against all others that run these tests.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A base whose seven ports are all free, and stay this process's own until it ends.
pub fn free_base() -> u16 {
    let start = (std::process::id() % u32::from(BASES)) as u16;
    for _ in 0..BASES {
        let n = (start + NEXT.fetch_add(1, Ordering::Relaxed) % BASES) % BASES;
        let base = 10_000 + n / 20 * 1000 + n % 20;
        let lock = std::env::temp_dir().join(format!("posthorn-test-{base}.lock"));
        // Another user's is none of ours to try.
        let mut options = File::options();
        let Ok(file) = options.create(true).truncate(false).write(true).open(&lock) else {
            continue;
        };
        let all = [SMTP, SUBMISSION, SUBMISSIONS, IMAP, IMAPS, HTTP, HTTPS];
        let free = |port| TcpListener::bind(("127.0.0.1", base + port)).is_ok();
        if file.try_lock().is_ok() && all.into_iter().all(free) {
            TAKEN.lock().expect("not poisoned").push(file);
            return base;
        }
    }
    panic!("no free ports on 127.0.0.1");
}

/// A whole answer, status line and headers included.
pub fn http_get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

impl Server {
    /// Starts the demo and waits until it is ready.
    pub fn start(dir: &Path, extra: &[&str]) -> Self {
        Self::start_at(dir, free_base(), extra)
    }

    /// Without `--insecure-login`.
    pub fn start_secure(dir: &Path) -> Self {
        Self::launch(dir, free_base(), &[])
    }

    pub fn start_at(dir: &Path, base: u16, extra: &[&str]) -> Self {
        Self::launch(dir, base, &[&["--insecure-login"], extra].concat())
    }

    fn launch(dir: &Path, base: u16, extra: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.with_extension("log"))
            .expect("log file");
        let child = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .arg("demo")
            .args(["--dir", dir.to_str().expect("utf-8 path")])
            .args(["--port-base", &base.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("posthorn starts");
        let mut server = Self { child, base };
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.child.try_wait().expect("wait") {
                let log = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
                panic!("posthorn ended with {status}:\n{log}");
            }
            if server
                .http_get("/readyz")
                .is_some_and(|r| r.starts_with("HTTP/1.1 200"))
            {
                return server;
            }
            assert!(Instant::now() < until, "posthorn did not get ready");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn port(&self, service: u16) -> u16 {
        self.base + service
    }

    /// A whole answer, status line and headers included.
    pub fn http_get(&self, path: &str) -> Option<String> {
        http_get(self.base + HTTP, path)
    }

    /// Connected, EHLO said.
    pub fn smtp(&self) -> Smtp {
        let mut smtp = Smtp::connect(self.port(SMTP)).expect("SMTP");
        smtp.command("EHLO client.test").expect("EHLO");
        smtp
    }

    pub fn imap(&self, user: &str) -> Imap {
        let mut imap = Imap::connect(self.port(IMAP)).expect("IMAP");
        imap.ok(&format!("LOGIN {user} {PASSWORD}"));
        imap
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill");
        self.child.wait().expect("wait")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An SMTP client.
pub struct Smtp {
    pub stream: BufReader<TcpStream>,
}

impl Smtp {
    pub fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut smtp = Self {
            stream: BufReader::new(stream),
        };
        smtp.reply()?;
        Ok(smtp)
    }

    /// Reads one reply with all its lines.
    pub fn reply(&mut self) -> std::io::Result<String> {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let last = line.as_bytes().get(3) != Some(&b'-');
            all.push_str(&line);
            if last {
                return Ok(all);
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub fn command(&mut self, line: &str) -> std::io::Result<String> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// A whole transaction; the reply to the final dot. `message` is not yet dot-stuffed.
    pub fn deliver(&mut self, from: &str, to: &[&str], message: &[u8]) -> std::io::Result<String> {
        self.command(&format!("MAIL FROM:<{from}>"))?;
        for to in to {
            let reply = self.command(&format!("RCPT TO:<{to}>"))?;
            if !reply.starts_with("250") {
                return Ok(reply);
            }
        }
        let go = self.command("DATA")?;
        assert!(go.starts_with("354"), "{go}");
        let mut data = Vec::with_capacity(message.len() + 5);
        for line in message.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                data.push(b'.');
            }
            data.extend_from_slice(line);
        }
        data.extend_from_slice(b".\r\n");
        self.send(&data)?;
        self.reply()
    }
}

/// An IMAP client that understands literals.
pub struct Imap {
    pub stream: BufReader<TcpStream>,
    tag: u32,
}

/// One line of an answer: its text with literals cut out, and the literals.
#[derive(Debug, Default)]
pub struct Line {
    pub text: String,
    pub literals: Vec<Vec<u8>>,
}

impl Imap {
    pub fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut imap = Self::over(stream);
        imap.line()?;
        Ok(imap)
    }

    /// The greeting is still to come.
    pub fn over(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
            tag: 0,
        }
    }

    pub fn line(&mut self) -> std::io::Result<Line> {
        let mut line = Line::default();
        loop {
            let mut raw = Vec::new();
            if self.stream.read_until(b'\n', &mut raw)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let piece = String::from_utf8_lossy(&raw).trim_end().to_owned();
            line.text.push_str(&piece);
            let size = piece
                .strip_suffix('}')
                .and_then(|p| p.rsplit_once('{'))
                .and_then(|(_, n)| n.parse::<usize>().ok());
            let Some(size) = size else { return Ok(line) };
            let mut literal = vec![0; size];
            self.stream.read_exact(&mut literal)?;
            line.literals.push(literal);
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write");
    }

    /// Sends a command; gives the untagged lines and the tagged one.
    pub fn command(&mut self, command: &str) -> (Vec<Line>, String) {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(format!("{tag} {command}\r\n").as_bytes());
        self.until(&tag)
    }

    pub fn until(&mut self, tag: &str) -> (Vec<Line>, String) {
        let mut lines = Vec::new();
        loop {
            let line = self.line().expect("a line");
            match line.text.strip_prefix(tag) {
                Some(rest) if rest.starts_with(' ') => return (lines, rest[1..].to_owned()),
                _ => lines.push(line),
            }
        }
    }

    /// Like `command`, and the answer must be OK.
    pub fn ok(&mut self, command: &str) -> Vec<Line> {
        let (lines, tagged) = self.command(command);
        assert!(tagged.starts_with("OK"), "{command}: {tagged}");
        lines
    }
}

/// True if the program is there; says loudly that the test is skipped if not.
pub fn have(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

/// Says that a test was not run. `eprintln!` would be kept by the test harness and shown to
/// nobody.
pub fn skipped(why: &str) {
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED: {why} ***\n").as_bytes());
}
