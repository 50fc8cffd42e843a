//! What is wrong with a configuration, with line and column.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: types. Two sources of problems: the TOML reader (syntax, types, unknown keys) and
//! `cross_check`, which compares keys with one another. A problem always points at the text.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Config, bounds};
use crate::types::{Address, Domain, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used; the operator should look.
    Warning,
}

/// One thing that is wrong, at its place in the file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// `section.key`, where one is meant.
    pub key: Option<String>,
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The line itself, and how many of its characters are meant.
    source_line: String,
    width: usize,
}

/// Longer lines are cut where they are shown.
const MAX_SHOWN: usize = 160;

impl Problem {
    fn new(
        severity: Severity,
        key: Option<String>,
        text: &str,
        span: Option<Range<usize>>,
        message: String,
    ) -> Self {
        let span = span.unwrap_or(0..0);
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end).max(start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let source: String = text[line_start..line_end].chars().take(MAX_SHOWN).collect();
        let meant = text[start..end.min(line_end).max(start)].chars().count();
        Self {
            severity,
            key,
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message,
            source_line: source.trim_end_matches('\r').to_owned(),
            width: meant.clamp(1, MAX_SHOWN),
        }
    }

    /// From the TOML reader. An unknown key is named together with the nearest known one.
    pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> Self {
        let message = unknown_key(error.message()).unwrap_or_else(|| error.message().to_owned());
        let key = error.span().and_then(|span| key_at(text, &span));
        Self::new(Severity::Error, key, text, error.span(), message)
    }

    /// About a key of this text, found by somebody who looked further than the text.
    pub fn of(severity: Severity, text: &str, key: &str, message: String) -> Self {
        let span = Findings::new(text).span(key, None);
        Self::new(severity, Some(key.to_owned()), text, span, message)
    }

    /// `file:line:column`, what is wrong, and the line with a caret.
    pub fn render(&self, file: &str) -> String {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let Self {
            line,
            column,
            message,
            ..
        } = self;
        let mut shown = format!("{file}:{line}:{column}: {kind}: {message}");
        if !self.source_line.trim().is_empty() && *column <= MAX_SHOWN {
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            // Tabs stay tabs, so that the caret stands under its character.
            let pad: String = self
                .source_line
                .chars()
                .take(column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let carets = "^".repeat(self.width);
            shown.push_str(&format!(
                "\n {number} | {}\n {gutter} | {pad}{carets}",
                self.source_line
            ));
        }
        shown
    }
}

/// The key whose name or value is at this place.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let mut tables = vec![(String::new(), DeTable::parse(text).ok()?.into_inner())];
    while let Some((path, table)) = tables.pop() {
        for (name, value) in table {
            let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
            let found = holds(name.span()) || holds(value.span());
            let key = match path.as_str() {
                "" => name.into_inner().into_owned(),
                path => format!("{path}.{}", name.get_ref()),
            };
            // A table's place is its head; what is below is elsewhere.
            match value.into_inner() {
                DeValue::Table(inner) if !found => tables.push((key, inner)),
                _ if found => return Some(key),
                _ => {}
            }
        }
    }
    None
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// serde's "unknown field `x`, expected one of `a`, `b`", made short.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (found, expected) = rest.split_once('`')?;
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|key| (strsim::jaro_winkler(found, key), *key))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Some(match nearest {
        Some((score, key)) if score > 0.7 => {
            format!("unknown key `{found}`; did you mean `{key}`?")
        }
        _ => format!("unknown key `{found}`; known here are {}", known.join(", ")),
    })
}

/// Everything that the types can't say.
pub(super) fn cross_check(text: &str, config: &Config) -> Vec<Problem> {
    let mut found = Findings::new(text);
    hostname(config, &mut found);
    listeners(config, &mut found);
    tls(config, &mut found);
    push(config, &mut found);
    imap(config, &mut found);
    auth(config, &mut found);
    numbers(config, &mut found);
    log_level(config, &mut found);
    separator(config, &mut found);
    found.problems
}

struct Findings<'t> {
    text: &'t str,
    table: Option<DeTable<'t>>,
    problems: Vec<Problem>,
}

impl<'t> Findings<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            table: DeTable::parse(text).ok().map(|table| table.into_inner()),
            problems: Vec::new(),
        }
    }

    /// Where `section.key` stands, or its `index`th element.
    fn span(&self, path: &str, index: Option<usize>) -> Option<Range<usize>> {
        let mut keys = path.split('.');
        let mut value = self.table.as_ref()?.get(keys.next()?)?;
        for key in keys {
            value = value.get_ref().as_table()?.get(key)?;
        }
        let element = match (index, value.get_ref()) {
            (Some(index), DeValue::Array(array)) => array.get(index),
            _ => None,
        };
        Some(element.unwrap_or(value).span())
    }

    fn add(&mut self, severity: Severity, path: &str, index: Option<usize>, message: String) {
        let span = self.span(path, index);
        let key = Some(path.to_owned());
        self.problems
            .push(Problem::new(severity, key, self.text, span, message));
    }

    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Error, path, None, message.into());
    }
}

fn hostname(config: &Config, found: &mut Findings<'_>) {
    match Domain::parse(&config.hostname) {
        Ok(domain) if domain.is_literal() => {
            found.error("hostname", "hostname must be a name, not an address");
        }
        Ok(_) => {}
        Err(error) => found.error("hostname", format!("hostname: {error}")),
    }
    if config.data_dir.as_os_str().is_empty() {
        found.error("data_dir", "data_dir is empty");
    }
}

fn listeners(config: &Config, found: &mut Findings<'_>) {
    let mut seen: HashMap<SocketAddr, &str> = HashMap::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for (key, addr) in config.listeners() {
        let at = index.entry(key).or_default();
        // Port 0 asks for any free port, so it can stand twice.
        if addr.port() != 0
            && let Some(other) = seen.insert(addr, key)
        {
            found.add(
                Severity::Error,
                key,
                Some(*at),
                format!("{addr} is in {other} already; each listener needs its own port"),
            );
        }
        *at += 1;
    }
    if index.is_empty() {
        found.add(
            Severity::Warning,
            "hostname",
            None,
            "nothing listens: set listen in [smtp], [imap] and [http]".into(),
        );
    }
}

fn tls(config: &Config, found: &mut Findings<'_>) {
    match (&config.tls.certificate, &config.tls.key) {
        (Some(_), None) => found.error("tls.certificate", "certificate needs key beside it"),
        (None, Some(_)) => found.error("tls.key", "key needs certificate beside it"),
        _ => {}
    }
}

fn push(config: &Config, found: &mut Findings<'_>) {
    for (index, target) in config.push.allow_private.iter().enumerate() {
        if let Err(reason) = Target::parse(target) {
            found.add(
                Severity::Error,
                "push.allow_private",
                Some(index),
                format!("{reason}; write it like 192.168.1.20/32:8080 or [::1]/128:*"),
            );
        }
    }
    match config.push.vapid_subject.as_deref() {
        Some(subject) => {
            if !(subject.starts_with("mailto:") && subject.contains('@')
                || subject.starts_with("https://"))
            {
                found.error(
                    "push.vapid_subject",
                    "vapid_subject must be mailto:address or https://page (RFC 8292, 2.1)",
                );
            } else if reserved(subject) {
                found.add(
                    Severity::Warning,
                    "push.vapid_subject",
                    None,
                    "vapid_subject names a reserved domain; push services may refuse it".into(),
                );
            }
        }
        None if config.push.allow_private.is_empty() && reserved(&config.hostname) => {
            found.add(
                Severity::Warning,
                "hostname",
                None,
                "hostname is a reserved name; set push.vapid_subject, or push services may refuse \
                 wake-ups"
                    .into(),
            );
        }
        None => {}
    }
}

/// Names that can't be reached (RFC 2606, RFC 6761).
fn reserved(subject: &str) -> bool {
    let host = subject
        .rsplit(['@', '/'])
        .find(|part| part.contains('.') || *part == "localhost")
        .unwrap_or(subject);
    ["test", "example", "invalid", "localhost", "local"]
        .iter()
        .any(|tld| host.rsplit('.').next() == Some(tld))
        || ["example.com", "example.net", "example.org"]
            .iter()
            .any(|name| host == *name || host.ends_with(&format!(".{name}")))
}

fn imap(config: &Config, found: &mut Findings<'_>) {
    for (index, address) in config.imap.administrators.iter().enumerate() {
        if let Err(error) = Address::parse(address) {
            let message = format!("an administrator is the address of an account: {error}");
            found.add(Severity::Error, "imap.administrators", Some(index), message);
        }
    }
    // RFC 5464, 3.2.1.1
    if let Some(admin) = &config.imap.metadata_admin
        && !["mailto:", "tel:", "https://", "xmpp:"]
            .iter()
            .any(|scheme| admin.starts_with(scheme))
    {
        found.error(
            "imap.metadata_admin",
            "metadata_admin must be a URI: mailto:, tel:, xmpp: or https://",
        );
    }
}

fn auth(config: &Config, found: &mut Findings<'_>) {
    let auth = &config.auth;
    if let Err(error) = argon2::Params::new(
        auth.argon2_memory_kib,
        // What is wrong with this one, its bounds say.
        auth.argon2_iterations.max(1),
        auth.argon2_parallelism,
        None,
    ) {
        let key = match error {
            argon2::Error::ThreadsTooFew | argon2::Error::ThreadsTooMany => {
                "auth.argon2_parallelism"
            }
            _ => "auth.argon2_memory_kib",
        };
        found.error(
            key,
            format!("argon2 can't work with these parameters: {error}"),
        );
    } else if auth.argon2_memory_kib > 1024 * 1024 {
        found.error(
            "auth.argon2_memory_kib",
            "more than 1 GiB for one password: logins would stand still",
        );
    } else if auth.argon2_memory_kib < 7 * 1024 {
        found.add(
            Severity::Warning,
            "auth.argon2_memory_kib",
            None,
            "less than 7 MiB makes stolen hashes cheap to guess".into(),
        );
    }
    if auth.oauth.keys.is_some() {
        let oauth = &auth.oauth;
        for (key, value) in [
            ("auth.oauth.issuer", &oauth.issuer),
            ("auth.oauth.audience", &oauth.audience),
            ("auth.oauth.claim", &oauth.claim),
        ] {
            if value.is_empty() {
                found.error(key, "tokens of anybody's, or for anybody, are not taken");
            }
        }
    }
    // RFC 7677, 4
    if (1..4096).contains(&auth.scram_iterations) {
        found.error(
            "auth.scram_iterations",
            "SCRAM wants at least 4096 iterations; 0 switches it off",
        );
    }
}

fn separator(config: &Config, found: &mut Findings<'_>) {
    let separator = config.smtp.subaddress_separator;
    if !"+-_=#%&!$*^~/".contains(separator) {
        found.error(
            "smtp.subaddress_separator",
            "subaddress_separator is a sign such as + or -",
        );
    }
}

fn numbers(config: &Config, found: &mut Findings<'_>) {
    for bound in bounds::all(config) {
        let key = bound.path.rsplit('.').next().unwrap_or(bound.path);
        let (least, most) = (bound.least, bound.most);
        if bound.value == 0 && least > 0 {
            found.error(bound.path, format!("{key} can't be 0"));
        } else if !(least..=most).contains(&bound.value) {
            found.error(bound.path, format!("{key} must be from {least} to {most}"));
        }
    }
}

/// The words that a level can be; `EnvFilter` takes any other for the name of a module.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn log_level(config: &Config, found: &mut Findings<'_>) {
    let level = &config.log.level;
    let bad = level.split(',').find(|part| {
        let word = part.rsplit('=').next().unwrap_or(part).trim();
        !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word))
    });
    if let Some(part) = bad {
        let word = part.rsplit('=').next().unwrap_or(part).trim();
        let nearest = LEVELS
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)))
            .filter(|known| strsim::jaro_winkler(word, known) > 0.7);
        let hint = nearest.map_or(String::new(), |known| format!("; did you mean `{known}`?"));
        found.error(
            "log.level",
            format!("`{word}` is no level{hint}; write info, or warn,posthorn::push=debug"),
        );
    } else if let Err(error) = tracing_subscriber::EnvFilter::try_new(level) {
        found.error(
            "log.level",
            format!("{error}; write info, or warn,posthorn::push=debug"),
        );
    }
}

#[cfg(test)]
mod tests;
