//! Mail from and to a real Dovecot: its Maildir, its IMAP server, and an export that it opens.
//! Skipped loudly where Dovecot is not installed; the CI script installs it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::cli::{Cli, configure};
use common::{Imap, PATIENCE};

const ALICE: &str = "alice@club.test";

/// Dovecot with the Maildirs below a directory, run as whoever runs the tests.
struct Dovecot {
    child: Child,
    port: u16,
    _home: tempfile::TempDir,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // Its own children end with it.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

fn name(flag: &str) -> String {
    let output = Command::new("id").arg(flag).output().expect("id");
    String::from_utf8(output.stdout)
        .expect("utf-8")
        .trim()
        .to_owned()
}

fn there() -> bool {
    let found = ["/usr/sbin/dovecot", "/usr/lib/dovecot/imap"]
        .iter()
        .all(|path| Path::new(path).exists());
    if !found {
        common::skipped("dovecot-imapd is not installed");
    }
    found
}

impl Dovecot {
    /// `maildir`: where the mail of its one user is.
    fn start(maildir: &Path) -> Self {
        let home = tempfile::tempdir().expect("tempdir");
        let dir = &home.path().to_owned();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("mode");
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .unwrap()
            .port();
        let root = name("-u") == "0";
        // Dovecot opens no mail as root.
        let (user, group, login) = match root {
            true => (
                "nobody".to_owned(),
                "nogroup".to_owned(),
                "dovenull".to_owned(),
            ),
            false => (name("-un"), name("-gn"), name("-un")),
        };
        let internal = if root {
            "dovecot".to_owned()
        } else {
            user.clone()
        };
        let internal_group = if root {
            "dovecot".to_owned()
        } else {
            group.clone()
        };
        let text = format!(
            "base_dir = {dir}/run\nstate_dir = {dir}/run\nlog_path = {dir}/log\n\
             protocols = imap\nssl = no\ndisable_plaintext_auth = no\n\
             mail_location = maildir:{maildir}\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             default_internal_user = {internal}\ndefault_internal_group = {internal_group}\n\
             default_login_user = {login}\n\
             passdb {{\n driver = static\n args = password=secret\n}}\n\
             userdb {{\n driver = static\n args = uid={user} gid={group} home={dir}/home\n}}\n\
             namespace inbox {{\n inbox = yes\n mailbox Sent {{\n special_use = \\Sent\n }}\n}}\n\
             service imap-login {{\n chroot =\n inet_listener imap {{\n address = 127.0.0.1\n \
             port = {port}\n }}\n inet_listener imaps {{\n port = 0\n }}\n}}\n\
             service anvil {{\n chroot =\n}}\nservice stats {{\n chroot =\n}}\n",
            dir = dir.display(),
            maildir = maildir.display(),
        );
        let config = dir.join("dovecot.conf");
        fs::write(&config, text).expect("write");
        fs::create_dir(dir.join("home")).expect("mkdir");
        let own = |path: &Path| {
            let owner = format!("{user}:{group}");
            let owned = Command::new("chown")
                .args(["-R", &owner])
                .arg(path)
                .status();
            assert!(owned.expect("chown").success());
        };
        fs::create_dir_all(maildir).expect("mkdir");
        own(&dir.join("home"));
        own(maildir);
        let child = Command::new("/usr/sbin/dovecot")
            .arg("-F")
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .expect("dovecot");
        let dovecot = Self {
            child,
            port,
            _home: home,
        };
        let until = std::time::Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(
                std::time::Instant::now() < until,
                "dovecot did not start: {log}"
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        dovecot
    }

    fn imap(&self) -> Imap {
        let mut imap = Imap::connect(self.port).expect("IMAP");
        imap.ok("LOGIN u secret");
        imap
    }
}

/// A directory that Dovecot's user can reach.
fn reachable() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    dir
}

/// What a client sees of a mailbox: UIDVALIDITY, UIDNEXT, and of each message the UID, flags,
/// date and text.
fn seen(imap: &mut Imap, mailbox: &str) -> (Vec<String>, Vec<String>) {
    let lines = imap.ok(&format!("EXAMINE \"{mailbox}\""));
    let mut head: Vec<String> = lines
        .iter()
        .filter_map(|l| {
            let code = l.text.split('[').nth(1)?.split(']').next()?;
            (code.starts_with("UIDVALIDITY") || code.starts_with("UIDNEXT"))
                .then(|| code.to_owned())
        })
        .collect();
    head.sort();
    let mut messages = Vec::new();
    for line in imap.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])") {
        let Some(rest) = line.text.split_once("FETCH (").map(|(_, rest)| rest) else {
            continue;
        };
        let flags = rest
            .split("FLAGS (")
            .nth(1)
            .and_then(|f| f.split(')').next())
            .expect("flags");
        let mut flags: Vec<&str> = flags
            .split(' ')
            .filter(|f| !f.is_empty() && *f != "\\Recent")
            .collect();
        flags.sort_unstable();
        let uid = rest
            .split("UID ")
            .nth(1)
            .and_then(|f| f.split([' ', ')']).next())
            .expect("UID");
        let date = rest
            .split("INTERNALDATE \"")
            .nth(1)
            .and_then(|f| f.split('"').next());
        messages.push(format!("{uid} {flags:?} {date:?} {:?}", line.literals));
    }
    (head, messages)
}

const MAILBOXES: [&str; 3] = ["INBOX", "Entw&APw-rfe.Alt", "Sent"];

/// Mail that Dovecot itself has put there.
fn fill(dovecot: &Dovecot) {
    let mut imap = dovecot.imap();
    for mailbox in &MAILBOXES[1..] {
        imap.ok(&format!("CREATE \"{mailbox}\""));
    }
    imap.ok("SUBSCRIBE \"Entw&APw-rfe.Alt\"");
    for (n, (mailbox, flags)) in [
        ("INBOX", "\\Seen $Forwarded"),
        ("INBOX", "Work \\Flagged"),
        ("INBOX", ""),
        ("Entw&APw-rfe.Alt", "\\Draft Work"),
        ("Sent", "\\Seen \\Answered"),
    ]
    .iter()
    .enumerate()
    {
        let text = format!("Subject: {n}\r\n\r\nFrom me\r\n.\r\nend");
        imap.ok(&format!(
            "APPEND \"{mailbox}\" ({flags}) \"1{n}-Jul-1996 02:44:25 +0000\" {{{}+}}\r\n{text}",
            text.len()
        ));
    }
    // A hole in the UIDs.
    imap.ok("SELECT INBOX");
    imap.ok("UID STORE 2 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("LOGOUT");
}

fn store(home: &Path) -> Cli {
    let cli = configure(home);
    cli.ok(&["domain", "add", "club.test"], "");
    cli.ok(
        &["account", "add", ALICE, "--password-stdin"],
        "secret1234\n",
    );
    cli
}

/// Exports, and has Dovecot show it; compares with what `source` shows.
fn same_as(cli: &Cli, home: &Path, source: &Dovecot) {
    let target: PathBuf = home.join("exported");
    let to = [
        "store",
        "export",
        "--account",
        ALICE,
        "--to-maildir",
        target.to_str().unwrap(),
    ];
    cli.ok(&to, "");
    let exported = Dovecot::start(&target);
    for mailbox in MAILBOXES {
        let (had, has) = (
            seen(&mut source.imap(), mailbox),
            seen(&mut exported.imap(), mailbox),
        );
        assert_eq!(had, has, "{mailbox}");
        assert!(!has.1.is_empty());
    }
    let lines = exported.imap().ok("LSUB \"\" \"*\"");
    let subscribed = lines.iter().any(|l| l.text.contains("Entw&APw-rfe.Alt"));
    assert!(subscribed, "{lines:?}");
}

#[test]
fn a_maildir_of_dovecot_goes_through_unchanged() {
    if !there() {
        return;
    }
    let home = reachable();
    let source = home.path().join("Maildir");
    let dovecot = Dovecot::start(&source);
    fill(&dovecot);
    let cli = store(home.path());
    let args = [
        "store",
        "import",
        "--account",
        ALICE,
        "--maildir",
        source.to_str().unwrap(),
    ];
    let report = cli.ok(&args, "");
    assert_eq!(report["messages"], 4, "{report}");
    same_as(&cli, home.path(), &dovecot);
}

#[test]
fn mail_of_a_dovecot_comes_over_imap_unchanged() {
    if !there() {
        return;
    }
    let home = reachable();
    let dovecot = Dovecot::start(&home.path().join("Maildir"));
    fill(&dovecot);
    let cli = store(home.path());
    let server = format!("127.0.0.1:{}", dovecot.port);
    let args = [
        "store",
        "import",
        "--account",
        ALICE,
        "--imap",
        &server,
        "--user",
        "u",
        "--password-stdin",
        "--tls",
        "none",
    ];
    let report = cli.ok(&args, "secret\n");
    assert_eq!(report["messages"], 4, "{report}");
    assert_eq!(report["failed"], 0, "{report}");
    // Only what is new.
    let mut imap = dovecot.imap();
    imap.ok("APPEND INBOX \"20-Jul-1996 02:44:25 +0000\" {5+}\r\nA: 1\n");
    let report = cli.ok(&args, "secret\n");
    let counts = (&report["messages"], &report["known"]);
    assert_eq!(counts, (&1.into(), &4.into()), "{report}");
    same_as(&cli, home.path(), &dovecot);
    let wrong = cli.run(&args, "wrong\n");
    assert_eq!(wrong.status, Some(1));
    assert!(wrong.err.contains("AUTHENTICATE"), "{}", wrong.err);
}
