//! The server that is killed: its configuration, its directory, its process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::cli::Cli;
use crate::common::serve::{AUTH, configuration};
use crate::common::{HTTP, PASSWORD, PATIENCE, free_base, http_get};

pub const ACCOUNTS: [&str; 3] = ["alice", "bob", "carol"];

pub fn address(account: usize) -> String {
    format!("{}@posthorn.test", ACCOUNTS[account])
}

pub struct Site {
    pub home: PathBuf,
    pub base: u16,
    pub cli: Cli,
}

impl Site {
    pub fn new(home: &Path) -> Self {
        let base = free_base();
        let limits = "max_transactions = 1000000\n";
        let more = format!("{limits}{AUTH}[limits]\nshutdown_grace_secs = 2\n");
        let text = configuration(base, "data", &more);
        // Small segments, so that there is something to compact.
        let small = "reserve_bytes = 0\nsegment_bytes = 1048576";
        let text = text.replace("reserve_bytes = 0", small);
        let config = home.join("posthorn.toml");
        std::fs::write(&config, text).expect("write");
        let cli = Cli { config };
        cli.ok(&["domain", "add", "posthorn.test"], "");
        for account in 0..ACCOUNTS.len() {
            let args = ["account", "add", &address(account), "--password-stdin"];
            cli.ok(&args, PASSWORD);
        }
        Self {
            home: home.to_owned(),
            base,
            cli,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log(&self) -> String {
        let raw = std::fs::read(self.home.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&self) -> Running {
        let log = std::fs::File::create(self.home.join("log")).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .arg("serve")
            .arg("--config")
            .arg(&self.cli.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("posthorn starts");
        Running(child)
    }

    pub fn start(&self) -> Running {
        let mut running = self.spawn();
        let until = Instant::now() + PATIENCE;
        while !self.log().contains("ready after") {
            if let Some(status) = running.0.try_wait().expect("wait") {
                panic!("posthorn ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        running
    }

    /// A metric of the running server.
    pub fn metric(&self, name: &str) -> f64 {
        let text = http_get(self.base + HTTP, "/metrics").expect("metrics");
        let mut lines = text.lines();
        let value = lines.find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name}"))
    }
}

pub struct Running(Child);

impl Running {
    /// `kill -9`.
    pub fn kill(mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }

    pub fn stop(mut self) {
        crate::common::serve::signal(&self.0, "TERM");
        assert!(self.0.wait().expect("wait").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
