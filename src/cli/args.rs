//! What can be typed.
//!
//! May import: store's words.

use std::path::PathBuf;

use crate::store::Limit;
use clap::{Args as ClapArgs, Parser, Subcommand};

/// A mail server that wakes phones.
#[derive(Debug, Parser)]
#[command(
    name = "posthorn",
    version,
    about,
    disable_help_subcommand = true,
    after_help = "Start with: posthorn demo"
)]
pub(super) struct Args {
    /// The configuration file [default: $POSTHORN_CONFIG, else config/posthorn.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, errors included.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try it: sets everything up on loopback and runs.
    Demo(DemoArgs),
    /// Run the server.
    Serve,
    /// The configuration file: check it.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Accounts: people with a password and mailboxes.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Addresses that deliver to accounts.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Mail domains of this server.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Phones, browsers and programs that are woken.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// The mailstore: look after it.
    #[command(subcommand)]
    Store(StoreCommand),
    /// How the server does, on one screen.
    Status,
}

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Take a state image: what a rebuild of the index begins with.
    Image,
    /// Take a state image and remove what nobody needs any more from the log.
    Compact,
    /// Look whether all is well; the exit status is 1 where something is not.
    Check {
        /// A backup to look at instead of the store: its directory or its archive.
        backup: Option<PathBuf>,
        /// Read the body of every message too.
        #[arg(long)]
        deep: bool,
    },
    /// Make a backup, beside a running server; into a directory that has one already only what is
    /// new is copied.
    #[command(group(clap::ArgGroup::new("target").required(true)))]
    Backup(BackupArgs),
    /// Put a backup back, into a data directory without a store.
    #[command(group(clap::ArgGroup::new("source").required(true)))]
    Restore(RestoreArgs),
    /// Bring mail in from a Maildir, an mbox or another IMAP server. Run again it takes what is
    /// new, or goes on where it was cut off.
    Import(Box<ImportArgs>),
    /// Take mail out.
    Export(ExportArgs),
}

#[derive(Debug, ClapArgs)]
pub(super) struct BackupArgs {
    /// The directory for it: an empty one, or one with an earlier backup of the same store.
    #[arg(group = "target")]
    pub dir: Option<PathBuf>,
    /// Write one tar archive to this file instead; `-` is the standard output.
    #[arg(long, value_name = "FILE", group = "target")]
    pub to: Option<PathBuf>,
    /// Copy all files, also where a second name on the same file system would do.
    #[arg(long, conflicts_with = "to")]
    pub copy: bool,
    /// Read so many bytes a second at most, such as 20M.
    #[arg(long, value_name = "BYTES", default_value = "0", hide_default_value = true, value_parser = amount)]
    pub rate: u64,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RestoreArgs {
    /// The backup: a directory, an archive, or `-` for an archive on the standard input.
    #[arg(value_name = "FROM", group = "source")]
    pub path: Option<PathBuf>,
    /// The same.
    #[arg(long, value_name = "FROM", group = "source")]
    pub from: Option<PathBuf>,
    /// Move a store that is there already to `set-aside-N` in the data directory.
    #[arg(long)]
    pub set_aside: bool,
}

/// A number of bytes with K, M or G behind it, which are powers of 1024.
fn amount(text: &str) -> Result<u64, String> {
    let (digits, times) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1_u64),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number of bytes, such as 500K, 20M or 1G".to_owned())?;
    number.checked_mul(times).ok_or_else(|| "too much".into())
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct DemoArgs {
    /// Keep the data here; a later start goes on with it. Else it is temporary.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Services listen at this plus 525, 587, 465, 143, 993, 80 and 443.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..=64_500))]
    pub port_base: u16,
    /// The mail domain.
    #[arg(long, value_name = "NAME", default_value = "posthorn.test")]
    pub domain: String,
    /// One more account; NAME may be a whole address. Can be given several times.
    #[arg(long = "account", value_name = "NAME:PASSWORD")]
    pub account: Vec<String>,
    /// More accounts: user0, user1 and so on.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub accounts: u32,
    /// The password of alice, bob and the accounts of --accounts.
    #[arg(long, default_value = "posthorn-demo")]
    pub password: String,
    /// Take passwords without TLS, on loopback.
    #[arg(long)]
    pub insecure_login: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say what is wrong with it, with line and column.
    Check,
}

/// Where a new password comes from.
#[derive(Debug, ClapArgs)]
pub(super) struct PasswordSource {
    /// Read the password from the first line of standard input instead of asking.
    #[arg(long)]
    pub password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Make an account.
    Add {
        /// Its mail address, of a domain that was added.
        address: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Set a new password; whoever is logged in has to log in again.
    Passwd {
        /// The account's address.
        address: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Remove an account with all its mail.
    Remove {
        /// The account's address.
        address: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Disable it now and remove it after so many days; `account restore` takes that back.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3650))]
        keep_days: Option<u32>,
    },
    /// Take back `remove --keep-days`: same password, same mail.
    Restore {
        /// The account's address.
        address: String,
    },
    /// Show, or set, how much mail an account may keep.
    Quota {
        /// The account's address.
        address: String,
        /// Size of all its mail: a number with K, M, G or T, `none`, or `default`.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        bytes: Option<Limit>,
        /// Number of messages: a number, `none`, or `default`.
        #[arg(long, value_name = "N", value_parser = number)]
        messages: Option<Limit>,
    },
    /// List accounts.
    List,
    /// One account: mailboxes, aliases, devices.
    Show {
        /// The account's address.
        address: String,
    },
}

fn word(text: &str) -> Option<Limit> {
    match text {
        "none" => Some(Limit::None),
        "default" => Some(Limit::Default),
        _ => None,
    }
}

/// A limit of messages.
fn number(text: &str) -> Result<Limit, String> {
    let parsed = || text.parse().ok().filter(|n| (1..=MOST).contains(n));
    let limit = word(text).or_else(|| parsed().map(Limit::At));
    limit.ok_or_else(|| "write a number above 0, `none` or `default`".into())
}

/// A limit of bytes: `500M`, `2G`, `2GiB`.
fn size(text: &str) -> Result<Limit, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => Some(0),
        "K" | "KB" | "KIB" => Some(10),
        "M" | "MB" | "MIB" => Some(20),
        "G" | "GB" | "GIB" => Some(30),
        "T" | "TB" | "TIB" => Some(40),
        _ => None,
    };
    let parsed = || {
        let number: u64 = digits.parse().ok()?;
        let bytes = number.checked_mul(1 << shift?)?;
        Some(bytes).filter(|bytes| (1..=MOST).contains(bytes))
    };
    let limit = word(text).or_else(|| parsed().map(Limit::At));
    limit.ok_or_else(|| "write a size such as 500M or 2G, `none` or `default`".into())
}

/// Numbers of quotas have 63 bits (RFC 9208, 3.1.2).
const MOST: u64 = i64::MAX as u64;

#[derive(Debug, Subcommand)]
pub(super) enum AliasCommand {
    /// Make or replace an alias.
    Add {
        /// The alias.
        address: String,
        /// Accounts or aliases that its mail goes to.
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<String>,
    },
    /// Remove an alias.
    Remove {
        /// The alias.
        address: String,
    },
    /// List aliases.
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Take mail for a domain.
    Add {
        /// Its name, such as example.org.
        domain: String,
    },
    /// Stop taking mail for a domain that no account and no alias uses.
    Remove {
        /// Its name.
        domain: String,
    },
    /// List domains.
    List,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// List the devices of an account.
    List {
        /// The account's address.
        address: String,
    },
    /// Add a Web Push subscription.
    Add {
        /// The account's address.
        address: String,
        /// What its owner calls it.
        #[arg(long)]
        name: String,
        /// The subscription's endpoint.
        #[arg(long)]
        endpoint: String,
        /// The subscription's `p256dh` key, in base64url.
        #[arg(long)]
        p256dh: String,
        /// The subscription's `auth` secret, in base64url.
        #[arg(long)]
        auth: String,
    },
    /// Remove a device.
    Remove {
        /// The account's address.
        address: String,
        /// The device's number, as `device list` shows it.
        id: u32,
    },
    /// Send a wake-up and print what came of it.
    Test {
        /// The account's address.
        address: String,
        /// The device's number, as `device list` shows it.
        id: u32,
    },
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["maildir", "mbox", "imap"])))]
pub(super) struct ImportArgs {
    /// The account that it goes to.
    #[arg(long, value_name = "ADDRESS")]
    pub account: String,
    /// From a Maildir with its folders, of Dovecot or Courier.
    #[arg(long, value_name = "DIR")]
    pub maildir: Option<PathBuf>,
    /// How folders of the Maildir lie.
    #[arg(long, value_enum, default_value_t = Layout::PlusPlus, requires = "maildir")]
    pub layout: Layout,
    /// From an mbox file.
    #[arg(long, value_name = "FILE")]
    pub mbox: Option<PathBuf>,
    /// From another IMAP server, port 993 or the given one.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub imap: Option<String>,
    /// Only this mailbox; of an mbox: where it goes [default: INBOX].
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
    /// Who logs in at the other server.
    #[arg(long, value_name = "USER", requires = "imap")]
    pub user: Option<String>,
    /// Read the password for the other server from the first line of standard input.
    #[arg(long, requires = "imap")]
    pub password_stdin: bool,
    /// How the connection to the other server is kept secret; none: on loopback only.
    #[arg(long, value_enum, default_value_t = TlsMode::Implicit, requires = "imap")]
    pub tls: TlsMode,
    /// Certificates to trust instead of the system's, in PEM.
    #[arg(long, value_name = "FILE", requires = "imap")]
    pub ca: Option<PathBuf>,
}

/// How folders of a Maildir lie.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Layout {
    /// `.Folder.Sub`, beside each other.
    #[value(name = "maildir++")]
    PlusPlus,
    /// `Folder/Sub`, Dovecot's LAYOUT=fs.
    Fs,
}

/// How the connection to another server is kept secret.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum TlsMode {
    /// TLS from the first byte, port 993.
    Implicit,
    /// STARTTLS, port 143.
    Starttls,
    /// Not at all: on loopback only.
    None,
}

#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["account", "all"])))]
#[command(group(clap::ArgGroup::new("target").required(true).args(["to_maildir", "to_mbox"])))]
pub(super) struct ExportArgs {
    /// The account whose mail it is.
    #[arg(long, value_name = "ADDRESS")]
    pub account: Option<String>,
    /// All accounts, each into a directory of its own.
    #[arg(long)]
    pub all: bool,
    /// Into a Maildir in a new or empty directory, with flags and UIDs as Dovecot keeps them.
    #[arg(long, value_name = "DIR")]
    pub to_maildir: Option<PathBuf>,
    /// Into a new or empty directory, an mboxrd file for each mailbox.
    #[arg(long, value_name = "DIR")]
    pub to_mbox: Option<PathBuf>,
    /// Lines of a Maildir's files end in CRLF, as IMAP gives them, and not as they came or in LF.
    #[arg(long, requires = "to_maildir")]
    pub crlf: bool,
    /// Only this mailbox.
    #[arg(long, value_name = "NAME")]
    pub mailbox: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn limits_as_they_are_typed() {
        for (text, limit) in [
            ("none", Some(Limit::None)),
            ("default", Some(Limit::Default)),
            ("500", Some(Limit::At(500))),
            ("3k", Some(Limit::At(3072))),
            ("2G", Some(Limit::At(2 << 30))),
            ("1TiB", Some(Limit::At(1 << 40))),
            ("0", None),
            ("", None),
            ("G", None),
            ("2X", None),
            ("-1", None),
            ("1.5G", None),
            ("9999999999999999T", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(size(text).ok(), limit, "{text}");
        }
        assert_eq!(number("7"), Ok(Limit::At(7)));
        assert_eq!(number("none"), Ok(Limit::None));
        assert!(number("0").is_err() && number("7K").is_err());
    }

    #[test]
    fn bytes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("500K", 500 << 10),
            ("20m", 20 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(amount(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "99999999999G", "1é"] {
            assert!(amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_that_can_be_typed_is_explained() {
        use clap::CommandFactory;
        fn look(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {}", arg.get_id());
            }
            command.get_subcommands().for_each(|c| look(c, &path));
        }
        let mut command = Args::command();
        command.build();
        look(&command, "");
    }
}
