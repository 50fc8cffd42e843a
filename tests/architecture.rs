//! The plan of the house is true: imports go down only, and machines do no IO.
//! `docs/architecture.md` has the same table in words.

#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer with the layers that it may import; itself always.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "admin",
            "transfer",
            "smtp",
            "imap",
            "push",
            "http",
            "auth",
            "store",
            "tls",
            "net",
            "config",
            "mail",
            "telemetry",
            "types",
        ],
    ),
    (
        "app",
        &[
            "admin",
            "transfer",
            "smtp",
            "imap",
            "push",
            "http",
            "auth",
            "store",
            "tls",
            "net",
            "config",
            "mail",
            "telemetry",
            "types",
        ],
    ),
    ("smtp", SERVICES),
    ("imap", SERVICES),
    ("push", SERVICES),
    (
        "admin",
        &[
            "transfer",
            "auth",
            "store",
            "tls",
            "net",
            "config",
            "mail",
            "telemetry",
            "types",
        ],
    ),
    ("transfer", SERVICES),
    (
        "http",
        &[
            "admin",
            "auth",
            "store",
            "tls",
            "net",
            "config",
            "mail",
            "telemetry",
            "types",
        ],
    ),
    (
        "auth",
        &["store", "net", "config", "mail", "telemetry", "types"],
    ),
    (
        "tls",
        &["store", "net", "config", "mail", "telemetry", "types"],
    ),
    ("store", &["net", "config", "mail", "telemetry", "types"]),
    ("net", &["telemetry", "types"]),
    ("config", &["types"]),
    ("mail", &["types"]),
    ("telemetry", &["types"]),
    ("types", &[]),
];

const SERVICES: &[&str] = &[
    "auth",
    "store",
    "tls",
    "net",
    "config",
    "mail",
    "telemetry",
    "types",
];

const MACHINE: &str = "//! Machine: no IO, no clock, no randomness.";

/// What a machine may not name. `IpAddr` and the like are values, so `std::net` alone is fine.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::io::",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "rand::",
    "SystemRandom",
    "RandomState",
    "async fn",
    ".await",
];

/// Crates that one layer alone names, so that they can be exchanged.
const ONE_LAYER: &[(&str, &[&str])] = &[
    ("sled::", &["src/store/engine"]),
    ("mail_parser::", &["src/mail"]),
    ("prometheus::", &["src/telemetry"]),
    ("rcgen::", &["src/tls"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        // Tests in a file of their own may name anything.
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("source");
            (path.strip_prefix(root).expect("inside").to_owned(), text)
        })
        .collect()
}

/// The code without comments and without `#[cfg(test)]` modules at the end of a file.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end]
        .lines()
        .map(|line| match line.find("//") {
            Some(at) if !line[..at].contains('"') => &line[..at],
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn layer(path: &Path) -> String {
    let name = path.iter().nth(1).expect("src/x").to_string_lossy();
    name.trim_end_matches(".rs").to_owned()
}

/// Every `crate::x` of a text; of `use crate::{a::..., b}` each.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate` and `some_crate::` are other things.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            text.trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            for (index, c) in group.char_indices() {
                if start && depth == 0 && !c.is_whitespace() && c != '}' {
                    found.push(word(&group[index..]));
                    start = false;
                }
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    _ => {}
                }
            }
        } else {
            found.push(word(rest));
        }
    }
    found
}

#[test]
fn the_reader_of_imports_is_right() {
    let text = "use crate::types::Uid;\nuse crate::{net::{A, B}, mail};\nlet x = crate::store::Y;\n\
                $crate::no(); my_crate::no();";
    assert_eq!(imports(text), ["types", "net", "mail", "store"]);
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let layer = layer(&path);
        if layer == "lib" {
            continue;
        }
        let (_, may) = LAYERS
            .iter()
            .find(|(name, _)| *name == layer)
            .unwrap_or_else(|| panic!("{}: no such layer in the plan", path.display()));
        for import in imports(&code(&text)) {
            if import != layer && !may.contains(&import.as_str()) {
                wrong.push(format!(
                    "{}: {layer} may not import {import}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn machines_do_no_io_and_read_no_clock() {
    let mut wrong = Vec::new();
    let mut machines = 0;
    for (path, text) in sources() {
        if !text.lines().any(|line| line == MACHINE) {
            continue;
        }
        machines += 1;
        let code = code(&text);
        for word in IMPURE {
            if code.contains(word) {
                wrong.push(format!("{}: a machine that names {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(machines >= 3, "the search finds the machines: {machines}");
}

#[test]
fn crates_that_parse_or_store_are_named_in_one_layer_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        for (name, places) in ONE_LAYER {
            if code.contains(name)
                && !places.iter().any(|place| {
                    path.starts_with(place) || path.with_extension("") == Path::new(place)
                })
            {
                wrong.push(format!("{}: names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(
            text.starts_with("//! "),
            "{}: no head comment",
            path.display()
        );
        assert!(!text.starts_with("//! To come"), "{}", path.display());
    }
}
