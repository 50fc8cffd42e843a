//! The real binary's commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

pub struct Cli {
    pub config: PathBuf,
}

pub struct Answer {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Cli {
    pub fn run(&self, args: &[&str], input: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthorn"));
        command.arg("--config").arg(&self.config).args(args);
        finish(command, input)
    }

    pub fn ok(&self, args: &[&str], input: &str) -> Value {
        let answer = self.run(&[&["--json"], args].concat(), input);
        assert_eq!(
            answer.status,
            Some(0),
            "{args:?}: {} {}",
            answer.out,
            answer.err
        );
        serde_json::from_str(&answer.out).expect("JSON")
    }

    pub fn fails(&self, status: i32, args: &[&str], says: &str) {
        let answer = self.run(args, "secret\n");
        assert_eq!(
            answer.status,
            Some(status),
            "{args:?}: {} {}",
            answer.out,
            answer.err
        );
        assert!(answer.err.contains(says), "{args:?}: {}", answer.err);
        assert_eq!(answer.out, "");
    }
}

/// Runs a command with this input to its end.
pub fn finish(mut command: Command, input: &str) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("posthorn runs");
    let mut stdin = child.stdin.take().expect("stdin");
    // A command that fails at once may be gone before it reads.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("output");
    Answer {
        status: output.status.code(),
        out: String::from_utf8(output.stdout).expect("utf-8"),
        err: String::from_utf8(output.stderr).expect("utf-8"),
    }
}

/// A configuration that lets commands work on a small disk.
pub fn configure(dir: &Path) -> Cli {
    let config = dir.join("posthorn.toml");
    let data = dir.join("data");
    let text = format!(
        "hostname = \"mail.posthorn.test\"\ndata_dir = {:?}\n[store]\nreserve_bytes = 0\n\
         [auth]\nargon2_memory_kib = 8192\n",
        data.to_str().expect("utf-8")
    );
    std::fs::write(&config, text).expect("write");
    Cli { config }
}
