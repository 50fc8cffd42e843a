//! What the demo prints when it is ready: ports, accounts, and commands to paste.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: types. A command that is printed works as it stands, whatever the directory and
//! the password are.

use std::path::PathBuf;

use crate::types::{Address, Domain};

pub(super) struct Banner {
    pub domain: Domain,
    pub base: u16,
    pub dir: PathBuf,
    pub kept: bool,
    /// Alice and bob, with their passwords where they are known.
    pub shown: Vec<(Address, Option<String>)>,
    pub more: usize,
    /// This program, as a shell finds it.
    pub program: PathBuf,
    /// None: what is there under its name is somebody else's.
    pub config: Option<PathBuf>,
}

impl Banner {
    pub(super) fn text(&self) -> String {
        let domain = &self.domain;
        let port = |offset: u16| self.base.saturating_add(offset);
        let (smtp, imaps, http) = (port(525), port(993), port(80));
        format!(
            "\
Posthorn {version} demo on 127.0.0.1; data in {dir} ({kept})

  {smtp:<6} SMTP from other servers, STARTTLS
  {submission:<6} submission, STARTTLS
  {submissions:<6} submission over TLS
  {imap:<6} IMAP, STARTTLS
  {imaps:<6} IMAP over TLS
  {http:<6} HTTP: API, /metrics, /healthz
  {https:<6} the same over HTTPS, but no /metrics

Accounts: {accounts}

Send a mail:
  printf 'From: Carol <carol@example.org>\\r\\nTo: alice@{domain}\\r\\nSubject: Hello\\r\\n\\r\\nIt works.\\r\\n' | curl -sS --url smtp://127.0.0.1:{smtp}/example.org --mail-from carol@example.org --mail-rcpt alice@{domain} -T -
Watch IMAP IDLE:
  (printf '%s\\r\\n' {login} 'b SELECT INBOX' 'c IDLE'; sleep 600) | openssl s_client -quiet -connect 127.0.0.1:{imaps} 2>/dev/null
Read the metrics:
  curl -sS http://127.0.0.1:{http}/metrics | grep ^posthorn_

{others}
Stop with Ctrl-C.
",
            version = env!("CARGO_PKG_VERSION"),
            dir = self.dir.display(),
            kept = if self.kept {
                "kept"
            } else {
                "removed at the end"
            },
            submission = port(587),
            submissions = port(465),
            imap = port(143),
            https = port(443),
            accounts = self.accounts(),
            login = self.login(),
            others = self.others(),
        )
    }

    fn accounts(&self) -> String {
        let more = match self.more {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        let names: Vec<_> = self.shown.iter().map(|(a, _)| a.to_string()).collect();
        if let [(_, Some(first)), rest @ ..] = &self.shown[..]
            && rest.iter().all(|(_, other)| other.as_ref() == Some(first))
        {
            return format!("{}, password {first}{more}", names.join(" and "));
        }
        let each = self.shown.iter().map(|(address, password)| match password {
            Some(password) => format!("{address}, password {password}"),
            None => format!("{address}, with the password of an earlier start"),
        });
        format!("{}{more}", each.collect::<Vec<_>>().join("; "))
    }

    /// The lines of a LOGIN of alice's, for a shell.
    fn login(&self) -> String {
        let Some((alice, password)) = self.shown.first() else {
            return String::new();
        };
        match password.as_deref() {
            None => shell(&format!("a LOGIN {alice} PASSWORD")),
            Some(password) if password.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
                shell(&format!("a LOGIN {alice} {}", astring(password)))
            }
            Some(password) => format!(
                "{} {}",
                shell(&format!("a LOGIN {alice} {{{}+}}", password.len())),
                shell(password)
            ),
        }
    }

    fn others(&self) -> String {
        match &self.config {
            Some(config) => format!(
                "Other commands: {} --config {} status",
                shell(&self.program.display().to_string()),
                shell(&config.display().to_string())
            ),
            None => format!(
                "{} is not the demo's and stays as it is: other commands need a \
                 configuration of your own.",
                self.dir.join("posthorn.toml").display()
            ),
        }
    }
}

/// As an argument in IMAP (RFC 9051, 9): bare where it can be, else in quotes.
fn astring(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_.+=".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// As one word in a POSIX shell.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(alice: Option<&str>, bob: Option<&str>) -> Banner {
        let account = |name: &str, password: Option<&str>| {
            let address = Address::parse(&format!("{name}@posthorn.test")).unwrap();
            (address, password.map(str::to_owned))
        };
        Banner {
            domain: Domain::parse("posthorn.test").unwrap(),
            base: 2000,
            dir: "/tmp/x y".into(),
            kept: true,
            shown: vec![account("alice", alice), account("bob", bob)],
            more: 3,
            program: "/opt/post horn/posthorn".into(),
            config: Some("/tmp/x y/posthorn.toml".into()),
        }
    }

    #[test]
    fn only_passwords_that_are_right_are_shown() {
        for (alice, bob, shown) in [
            (
                Some("p"),
                Some("p"),
                "alice@posthorn.test and bob@posthorn.test, password p; 3 more",
            ),
            (
                Some("q"),
                Some("p"),
                "alice@posthorn.test, password q; bob@posthorn.test, password p; 3 more",
            ),
            (
                None,
                Some("p"),
                "alice@posthorn.test, with the password of an earlier start; \
                 bob@posthorn.test, password p; 3 more",
            ),
        ] {
            assert_eq!(banner(alice, bob).accounts(), shown);
        }
    }

    #[test]
    fn words_stay_one_word_in_a_shell() {
        for (text, word) in [
            ("/tmp/demo", "/tmp/demo"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$HOME`x`\\", "'$HOME`x`\\'"),
        ] {
            assert_eq!(shell(text), word);
        }
        let text = banner(Some("p"), Some("p")).text();
        assert!(
            text.contains("'/opt/post horn/posthorn' --config '/tmp/x y/posthorn.toml' status"),
            "{text}"
        );
    }

    #[test]
    fn any_password_becomes_an_argument_of_login() {
        for (password, words) in [
            (
                "posthorn-demo",
                "'a LOGIN alice@posthorn.test posthorn-demo'",
            ),
            ("a b", "'a LOGIN alice@posthorn.test \"a b\"'"),
            ("50%\"\\", "'a LOGIN alice@posthorn.test \"50%\\\"\\\\\"'"),
            ("é'", "'a LOGIN alice@posthorn.test {3+}' 'é'\\'''"),
        ] {
            assert_eq!(banner(Some(password), None).login(), words);
        }
    }
}
