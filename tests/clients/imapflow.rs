//! imapflow, of Node's libraries the one that speaks COMPRESS and QRESYNC.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::common::{IMAP, IMAPS, have, skipped};
use super::{demo, give_quota, run, script};

/// Where the CI script installs libraries for Node.
fn modules() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache");
    cache
        .unwrap_or_else(home)
        .join("posthorn-tests/node_modules")
}

fn node() -> Command {
    let mut node = Command::new("node");
    // Its own wins.
    let path = std::env::var_os("NODE_PATH").unwrap_or_else(|| modules().into());
    node.env("NODE_PATH", path);
    node
}

#[test]
fn imapflow_packs_and_comes_back() {
    if !have("node") {
        return;
    }
    let there = node()
        .args(["-e", "require('imapflow')"])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|s| s.success()) {
        skipped("node has no module imapflow");
        return;
    }
    let (home, server) = demo();
    give_quota(&home);
    run(node()
        .arg(script("with_imapflow.js"))
        .args([IMAP, IMAPS].map(|p| server.port(p).to_string())));
}
