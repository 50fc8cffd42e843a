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

use super::Config;
use crate::types::Domain;

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
    fn new(severity: Severity, text: &str, span: Option<Range<usize>>, message: String) -> Self {
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
        Self::new(Severity::Error, text, error.span(), message)
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
    auth(config, &mut found);
    not_zero(config, &mut found);
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        found.error(
            "log.level",
            format!("{error}; write info, or warn,posthorn::push=debug"),
        );
    }
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
        self.problems
            .push(Problem::new(severity, self.text, span, message));
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
        if let Err(reason) = private_target(target) {
            found.add(
                Severity::Error,
                "push.allow_private",
                Some(index),
                format!("{reason}; write it like 192.168.1.20/32:8080 or 127.0.0.1/32:*"),
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

fn private_target(target: &str) -> Result<(), String> {
    let (network, port) = target
        .rsplit_once(':')
        .ok_or_else(|| format!("`{target}` has no port"))?;
    if port != "*" && !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(format!("`{port}` is no port"));
    }
    let (address, bits) = network
        .split_once('/')
        .ok_or_else(|| format!("`{network}` has no prefix length"))?;
    let address: std::net::IpAddr = address
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| format!("`{address}` is no address"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.trim_end_matches(']').parse::<u8>() {
        Ok(bits) if bits <= most => Ok(()),
        _ => Err(format!("`{bits}` is no prefix length")),
    }
}

fn auth(config: &Config, found: &mut Findings<'_>) {
    let auth = &config.auth;
    if let Err(error) = argon2::Params::new(
        auth.argon2_memory_kib,
        auth.argon2_iterations,
        auth.argon2_parallelism,
        None,
    ) {
        found.error(
            "auth.argon2_memory_kib",
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
    if auth.hash_threads > 64 {
        found.error("auth.hash_threads", "more than 64 threads that hash");
    }
}

/// Bounds that would switch the server off.
fn not_zero(config: &Config, found: &mut Findings<'_>) {
    let bounds: [(&str, u64); 15] = [
        ("auth.hash_threads", config.auth.hash_threads as u64),
        ("auth.hash_queue", config.auth.hash_queue as u64),
        ("auth.failure_window_secs", config.auth.failure_window_secs),
        ("smtp.max_connections", config.smtp.max_connections as u64),
        (
            "smtp.max_connections_per_ip",
            config.smtp.max_connections_per_ip as u64,
        ),
        ("smtp.max_recipients", config.smtp.max_recipients as u64),
        ("smtp.max_message_bytes", config.smtp.max_message_bytes),
        ("imap.max_connections", config.imap.max_connections as u64),
        (
            "imap.max_connections_per_ip",
            config.imap.max_connections_per_ip as u64,
        ),
        ("http.max_connections", config.http.max_connections as u64),
        (
            "limits.tls_handshake_timeout_secs",
            config.limits.tls_handshake_timeout_secs,
        ),
        ("limits.keepalive_secs", config.limits.keepalive_secs),
        ("store.queue_len", config.store.queue_len as u64),
        ("store.queue_bytes", config.store.queue_bytes as u64),
        ("store.segment_bytes", config.store.segment_bytes),
    ];
    for (path, value) in bounds {
        if value == 0 {
            let key = path.rsplit('.').next().unwrap_or(path);
            found.error(path, format!("{key} can't be 0"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "hostname = \"mail.example.com\"\ndata_dir = \"/tmp/x\"\n";
    const LISTEN: &str = "[imap]\nlisten = [\"127.0.0.1:2143\"]\n";

    fn errors(rest: &str) -> Vec<(usize, usize, String)> {
        match Config::parse(&format!("{HEAD}{rest}")) {
            Ok(_) => vec![],
            Err(problems) => problems
                .into_iter()
                .map(|p| (p.line, p.column, p.message))
                .collect(),
        }
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let found = errors("[smtp]\nmax_conections = 3\n");
        assert_eq!(found.len(), 1);
        let (line, column, message) = &found[0];
        assert_eq!((*line, *column), (4, 1));
        assert_eq!(
            message,
            "unknown key `max_conections`; did you mean `max_connections`?"
        );
    }

    #[test]
    fn each_cross_check_points_at_its_value() {
        let table: &[(&str, usize, &str)] = &[
            (
                "[imap]\nlisten = [\"127.0.0.1:1\"]\nlisten_tls = [\"127.0.0.1:1\"]\n",
                5,
                "imap.listen already",
            ),
            ("[tls]\ncertificate = \"a.pem\"\n", 4, "needs key"),
            ("[tls]\nkey = \"a.pem\"\n", 4, "needs certificate"),
            (
                "[push]\nallow_private = [\"127.0.0.1/32:*\", \"10.0.0.1:80\"]\n",
                4,
                "prefix length",
            ),
            (
                "[push]\nallow_private = [\"10.0.0.1/33:80\"]\n",
                4,
                "`33` is no prefix length",
            ),
            (
                "[push]\nallow_private = [\"10.0.0.1/32:0\"]\n",
                4,
                "`0` is no port",
            ),
            ("[push]\nvapid_subject = \"me\"\n", 4, "mailto:"),
            ("[auth]\nargon2_memory_kib = 1\n", 4, "argon2"),
            ("[auth]\nhash_threads = 0\n", 4, "can't be 0"),
            ("[log]\nlevel = \"posthorn=loud\"\n", 4, "write info"),
            ("[log]\nformat = \"xml\"\n", 4, "text"),
            ("[smtp]\nlisten = [\"25\"]\n", 4, "socket address"),
        ];
        for (rest, line, needle) in table {
            let found = errors(rest);
            assert_eq!(found.len(), 1, "{rest}: {found:?}");
            assert_eq!(found[0].0, *line, "{rest}: {found:?}");
            assert!(found[0].2.contains(needle), "{rest}: {found:?}");
        }
    }

    #[test]
    fn bad_hostnames() {
        for name in ["", "[192.0.2.1]", "a b", "-"] {
            let text = format!("hostname = \"{name}\"\ndata_dir = \"x\"\n{LISTEN}");
            let problems = Config::parse(&text).unwrap_err();
            assert_eq!((problems[0].line, problems[0].column), (1, 12), "{name:?}");
        }
    }

    #[test]
    fn reserved_names_only_warn() {
        let text = format!("hostname = \"a.test\"\ndata_dir = \"x\"\n{LISTEN}");
        let (_, warnings) = Config::parse(&text).unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].message.contains("vapid_subject"));
        let text =
            format!("{HEAD}{LISTEN}[push]\nvapid_subject = \"mailto:postmaster@example.org\"\n");
        assert_eq!(Config::parse(&text).unwrap().1.len(), 1);
        let text =
            format!("{HEAD}{LISTEN}[push]\nvapid_subject = \"mailto:postmaster@posthorn.dev\"\n");
        assert_eq!(Config::parse(&text).unwrap().1, vec![]);
    }

    #[test]
    fn a_problem_shows_its_line_with_a_caret() {
        let problems = Config::parse("hostname = 5\n").unwrap_err();
        let shown = problems[0].render("f.toml");
        assert!(shown.starts_with("f.toml:1:12: error: "), "{shown}");
        assert!(
            shown.ends_with("\n 1 | hostname = 5\n   |            ^"),
            "{shown}"
        );
    }

    #[test]
    fn odd_text_never_panics() {
        for text in [
            "",
            "\u{feff}",
            "ä = ö",
            "[",
            "hostname = \"ä\"\r\n",
            "\t=\t",
        ] {
            super::super::fuzz_config(text.as_bytes());
        }
    }
}
