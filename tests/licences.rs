//! What is built in may be used by everybody, and there is one TLS and one crypto library.
//!
//! Over `cargo tree`, which lists what is built; Cargo.lock also lists what could be.

#![allow(clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::process::Command;

const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

const FORBIDDEN: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "sieve-rs"];

/// An SPDX expression that leaves a choice of allowed licences. OR binds weaker than AND; the
/// old `/` means OR.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    any(&expression)
}

fn any(expression: &str) -> bool {
    split(expression, " OR ")
        .iter()
        .any(|part| split(part, " AND ").iter().all(|part| one(part)))
}

fn one(term: &str) -> bool {
    match term.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) => any(inner),
        None => ALLOWED.contains(&term),
    }
}

/// Splits where no parenthesis is open.
fn split<'t>(text: &'t str, at: &str) -> Vec<&'t str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ if depth == 0 && index >= start && text[index..].starts_with(at) => {
                parts.push(&text[start..index]);
                start = index + at.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn the_reader_of_expressions_is_right() {
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "ISC AND (GPL-2.0 OR ISC)",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "AGPL-3.0-only",
        "ISC AND (GPL-2.0 OR LGPL-2.1)",
    ] {
        assert!(!allowed(bad), "{bad}");
    }
}

#[test]
fn every_crate_that_is_built_is_permissive_and_none_comes_twice_where_it_matters() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-e", "normal,build", "--prefix", "none"])
        .args(["-f", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("utf-8");
    let mut versions: HashMap<&str, std::collections::HashSet<&str>> = HashMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (package, licence) = line.split_once('|').unwrap_or((line, ""));
        let licence = licence.trim_end_matches(" (*)");
        assert!(allowed(licence), "{package}: licence {licence:?}");
        let mut words = package.split_whitespace();
        let (name, version) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        assert!(!FORBIDDEN.contains(&name), "{package} must not be built in");
        versions.entry(name).or_default().insert(version);
    }
    assert!(versions.len() > 50, "cargo tree told little: {text}");
    for single in [
        "rustls",
        "aws-lc-rs",
        "aws-lc-sys",
        "sled",
        "mail-parser",
        "prometheus",
    ] {
        assert_eq!(versions.get(single).map(|v| v.len()), Some(1), "{single}");
    }
    assert_eq!(versions["sled"].iter().next(), Some(&"v0.34.7"));
}
