//! A relay between a client and the server that keeps what both say.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Trace {
    pub port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// Before this port of the server; it relays until the process ends.
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let said = Arc::new(Mutex::new(Vec::new()));
        let all = said.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a client");
                let server = TcpStream::connect(("127.0.0.1", server)).expect("the server");
                let (to_server, to_client) = (server.try_clone(), client.try_clone());
                relay("C: ", client, to_server.expect("a clone"), all.clone());
                relay("S: ", server, to_client.expect("a clone"), all.clone());
            }
        });
        Self { port, said }
    }

    /// The lines of all connections since the last time, each behind `C: ` or `S: `. None of the
    /// answers is BAD, and none NO.
    pub fn take(&self) -> Vec<String> {
        self.take_with(&[])
    }

    /// The same where answers with these codes are right.
    pub fn take_with(&self, refused: &[&str]) -> Vec<String> {
        let lines = std::mem::take(&mut *self.said.lock().expect("not poisoned"));
        for line in &lines {
            let second = line.strip_prefix("S: ").and_then(|l| l.split(' ').nth(1));
            assert!(
                !matches!(second, Some("BAD" | "NO")) || refused.iter().any(|r| line.contains(r)),
                "{line} in\n{}",
                lines.join("\n")
            );
        }
        lines
    }
}

/// How many of the lines have this in them.
pub fn count(lines: &[String], text: &str) -> usize {
    lines.iter().filter(|line| line.contains(text)).count()
}

pub fn has(lines: &[String], text: &str) {
    assert!(
        count(lines, text) > 0,
        "no {text:?} in\n{}",
        lines.join("\n")
    );
}

fn relay(who: &'static str, mut from: TcpStream, mut to: TcpStream, said: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        let (mut buffer, mut line) = ([0; 16 * 1024], Vec::new());
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            // Kept before the other side can act on it.
            for byte in &buffer[..size] {
                line.push(*byte);
                if *byte == b'\n' {
                    let text = String::from_utf8_lossy(&line);
                    let text = format!("{who}{}", text.trim_end());
                    said.lock().expect("not poisoned").push(text);
                    line.clear();
                }
            }
            if to.write_all(&buffer[..size]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
