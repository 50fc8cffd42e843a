//! The example configuration is true: it is accepted, holds every key, and each at its default.

#![allow(clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

use posthorn::config::{Config, Severity};

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/posthorn.toml"))
        .expect("config/posthorn.toml")
}

#[test]
fn every_key_stands_at_its_default() {
    let (mut config, warnings) = Config::parse(&example()).expect("the example is valid");
    assert!(warnings.iter().all(|w| w.severity == Severity::Warning));
    // The one thing that has no default: where to listen.
    assert_eq!(config.listeners().len(), 13);
    config.smtp.listen.clear();
    config.smtp.listen_submission.clear();
    config.smtp.listen_submission_tls.clear();
    config.imap.listen.clear();
    config.imap.listen_tls.clear();
    config.http.listen.clear();
    config.http.listen_tls.clear();
    let default = Config::new("mail.example.org", "/var/lib/posthorn");
    assert_eq!(format!("{config:#?}"), format!("{default:#?}"));
}

#[test]
fn every_key_is_there() {
    let example = example();
    // An unknown key that is like no other makes the reader name those that it knows.
    let known = |section: &str| -> Vec<String> {
        let text = format!("hostname = \"a.b\"\ndata_dir = \"x\"\n{section}\n\"##\" = 1\n");
        let problem = Config::parse(&text).expect_err("unknown key").remove(0);
        let (_, keys) = problem
            .message
            .split_once("known here are ")
            .unwrap_or_else(|| panic!("{}", problem.message));
        keys.split(", ").map(str::to_owned).collect()
    };
    let mut sections = known("");
    assert!(sections.len() >= 11, "{sections:?}");
    while let Some(section) = sections.pop() {
        if section == "hostname" || section == "data_dir" {
            continue;
        }
        let head = format!("\n[{section}]\n");
        let (_, body) = example
            .split_once(&head)
            .unwrap_or_else(|| panic!("no [{section}]"));
        let body = body.split("\n[").next().unwrap_or_default();
        for key in known(&head) {
            let within = format!("{section}.{key}");
            if example.contains(&format!("\n[{within}]\n")) {
                sections.push(within);
                continue;
            }
            let there = body.lines().any(|line| {
                line.trim_start_matches('#')
                    .split_once(" = ")
                    .is_some_and(|(name, _)| name == key)
            });
            assert!(there, "[{section}] lacks {key}");
        }
    }
}

fn check(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_posthorn"))
        .args(["config", "check", "--config"])
        .arg(file)
        .output()
        .expect("posthorn runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into())
}

#[test]
fn config_check_accepts_the_example_and_shows_where_another_is_wrong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (status, text) = check(&root.join("config/posthorn.toml"));
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("is good"), "{text}");

    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("posthorn.toml");
    std::fs::write(&file, example().replace("max_hops =", "max_hop =")).expect("write");
    let (status, text) = check(&file);
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("unknown key `max_hop`; did you mean `max_hops`?"),
        "{text}"
    );
    let line = example()
        .lines()
        .position(|l| l.starts_with("max_hops"))
        .expect("line")
        + 1;
    assert!(
        text.contains(&format!("posthorn.toml:{line}:1: error")),
        "{text}"
    );

    let (status, text) = check(&dir.path().join("absent.toml"));
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("absent.toml") && text.contains("--config"),
        "{text}"
    );
}

#[test]
fn wrong_use_is_2() {
    for args in [&["account"][..], &["no-such-command"], &["account", "add"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_posthorn"))
            .args(args)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .expect("posthorn runs");
        assert_eq!(status.code(), Some(2), "{args:?}");
    }
}
