//! `posthorn serve` with a configuration of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use super::cli::Cli;
use super::{HTTP, IMAP, PATIENCE, SMTP, SUBMISSION, free_base};

pub struct Serving {
    pub child: Child,
    pub base: u16,
    pub cli: Cli,
    log: PathBuf,
}

/// Everything on loopback, `more` behind it, which begins inside `[smtp]`.
pub fn configuration(base: u16, data: &str, more: &str) -> String {
    format!(
        "hostname = \"mail.posthorn.test\"\ndata_dir = {data:?}\n\
         [imap]\nlisten = [\"127.0.0.1:{}\"]\n\
         [http]\nlisten = [\"127.0.0.1:{}\"]\n\
         [store]\nreserve_bytes = 0\n\
         [smtp]\nlisten = [\"127.0.0.1:{}\"]\nlisten_submission = [\"127.0.0.1:{}\"]\n{more}\n",
        base + IMAP,
        base + HTTP,
        base + SMTP,
        base + SUBMISSION,
    )
}

/// With cheap hashes and logins without TLS.
pub const AUTH: &str = "[auth]\nargon2_memory_kib = 8192\ninsecure_loopback_login = true\n";

impl Serving {
    /// A server in `home` with the accounts alice and bob.
    pub fn start(home: &Path, more: &str) -> Self {
        Self::start_with(home, |base| configuration(base, "data", more))
    }

    /// The same with a configuration that is made for these ports; the data lie in `data`.
    pub fn start_with(home: &Path, text: impl Fn(u16) -> String) -> Self {
        let base = free_base();
        let config = home.join("posthorn.toml");
        std::fs::write(&config, text(base)).expect("write");
        let cli = Cli { config };
        cli.ok(&["domain", "add", "posthorn.test"], "");
        for name in ["alice", "bob"] {
            let address = format!("{name}@posthorn.test");
            cli.ok(
                &["account", "add", &address, "--password-stdin"],
                super::PASSWORD,
            );
        }
        Self::launch(home, base, cli, |_| {})
    }

    /// Only the process; `prepare` may change how it is started.
    pub fn launch(home: &Path, base: u16, cli: Cli, prepare: impl FnOnce(&mut Command)) -> Self {
        let log = home.join("log");
        let file = std::fs::File::create(&log).expect("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthorn"));
        command
            .arg("serve")
            .arg("--config")
            .arg(&cli.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        prepare(&mut command);
        let child = command.spawn().expect("posthorn starts");
        let mut serving = Self {
            child,
            base,
            cli,
            log,
        };
        serving.logged("ready after");
        serving
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("log")
    }

    /// Waits until the log has this.
    pub fn logged(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("posthorn ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "no {text:?} in\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Writes the configuration anew and has it read; gives what was logged of that.
    pub fn reload(&mut self, text: &str) -> String {
        std::fs::write(&self.cli.config, text).expect("write");
        let before = self.log().len();
        self.signal("HUP");
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log()[before..].to_owned();
            if log.contains("read again") || log.contains("stays as it was") {
                return log;
            }
            assert!(Instant::now() < until, "no reload in\n{log}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    pub fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// It was told to stop: a second signal would end it at once.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().expect("wait")
    }
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(sent.success());
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
