//! What travels on the admin socket: one JSON object a line, a request and its answer.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! May import: types. The same values are what `--json` prints, so a field once named stays.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::backup::{BackedUp, BackupReport, Restored};
use crate::store::{CheckReport, Compacted, ContentLevel, ImageTaken, Limit};
use crate::types::Secret;

/// A password on its way over the socket, which only the server's own user can open.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Password(Zeroizing<String>);

impl Password {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub fn secret(&self) -> Secret {
        Secret::new(self.0.as_bytes())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Password> for String {
    fn from(password: Password) -> Self {
        password.0.to_string()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// One operation. Addresses and domains are text here and are checked by the operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    AccountAdd {
        address: String,
        password: Password,
    },
    AccountPasswd {
        address: String,
        password: Password,
    },
    AccountRemove {
        address: String,
        /// Disabled now, removed then. None: removed now.
        #[serde(default)]
        keep_days: Option<u32>,
    },
    AccountRestore {
        address: String,
    },
    /// None leaves a limit as it is.
    AccountQuota {
        address: String,
        bytes: Option<Limit>,
        messages: Option<Limit>,
    },
    AccountList,
    AccountShow {
        address: String,
    },
    AliasAdd {
        address: String,
        targets: Vec<String>,
    },
    AliasRemove {
        address: String,
    },
    AliasList,
    DomainAdd {
        domain: String,
    },
    DomainRemove {
        domain: String,
    },
    DomainList,
    DeviceList {
        address: String,
    },
    DeviceAdd {
        address: String,
        device: NewWebPush,
    },
    DeviceRemove {
        address: String,
        id: u32,
    },
    DeviceTest {
        address: String,
        id: u32,
    },
    /// Take a state image of the store.
    StoreImage,
    /// Take one, and compact the log.
    StoreCompact,
    /// Look whether all is well; `deep`: read every body.
    StoreCheck {
        deep: bool,
    },
    /// Take a state image, and keep it and the log's files as long as the connection is open.
    StoreHold,
    Status,
    /// After the request the stream carries frames (`transfer::frames`): this account gets mail.
    Import {
        address: String,
    },
    /// The same the other way. None: all accounts; all mailboxes.
    Export {
        address: Option<String>,
        mailbox: Option<String>,
    },
}

/// A Web Push subscription as a browser gives it: the keys in base64url.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewWebPush {
    pub name: String,
    pub endpoint: String,
    pub p256dh: String,
    pub auth: String,
}

/// What an operation gives.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    Done {
        message: String,
    },
    Accounts {
        accounts: Vec<AccountView>,
    },
    Account {
        account: Box<AccountDetail>,
    },
    /// What an account keeps and may keep, and whether the limits are those for all.
    Quota {
        address: String,
        #[serde(flatten)]
        quota: QuotaView,
        bytes_default: bool,
        messages_default: bool,
    },
    Aliases {
        aliases: Vec<AliasView>,
    },
    Domains {
        domains: Vec<DomainView>,
    },
    Devices {
        devices: Vec<DeviceView>,
    },
    /// A new device; `pushed`: a server runs that pushes the code to it.
    Device {
        device: Box<DeviceView>,
        pushed: bool,
    },
    /// As over the API.
    Tested {
        outcome: String,
        status: Option<u16>,
        answer: String,
        delivered: bool,
    },
    Status {
        status: Box<StatusView>,
    },
    Image {
        image: ImageTaken,
    },
    Compacted {
        compacted: Compacted,
    },
    Checked {
        report: Box<CheckReport>,
    },
    /// The group whose state image is held, with all that it needs.
    Held {
        group: u64,
    },
    BackedUp {
        backup: BackedUp,
    },
    Restored {
        restored: Restored,
    },
    BackupChecked {
        report: Box<BackupReport>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AccountView {
    pub address: String,
    /// RFC 3339.
    pub created: String,
    pub disabled: bool,
    /// RFC 3339: when it is removed, where that was said.
    pub remove_at: Option<String>,
    #[serde(flatten)]
    pub quota: QuotaView,
}

/// Bytes are the sum of the sizes of all mail; no limit is null.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct QuotaView {
    pub bytes: u64,
    pub bytes_limit: Option<u64>,
    pub messages: u64,
    pub messages_limit: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AccountDetail {
    #[serde(flatten)]
    pub account: AccountView,
    pub mailboxes: Vec<MailboxView>,
    pub aliases: Vec<String>,
    pub devices: Vec<DeviceView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct MailboxView {
    pub name: String,
    pub messages: u32,
    pub unseen: u32,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct AliasView {
    pub address: String,
    pub targets: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DomainView {
    pub domain: String,
    pub created: String,
    pub accounts: u64,
}

/// A device as its owner sees it. The endpoint is a capability: only its origin and a hash are
/// shown.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DeviceView {
    pub id: u32,
    pub name: String,
    pub kind: String,
    /// `unverified`, `active` or `paused`.
    pub state: String,
    /// Why it is paused.
    pub reason: Option<String>,
    /// How much of a message it may show.
    pub show: ContentLevel,
    pub origin: String,
    pub endpoint_hash: String,
    pub last_success: Option<String>,
    pub last_failure: Option<String>,
    pub last_error: Option<String>,
    pub failures: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct StatusView {
    pub version: String,
    /// False where the command line opened the store itself.
    pub running: bool,
    pub uptime_secs: u64,
    /// By service.
    pub connections: std::collections::BTreeMap<String, u64>,
    pub domains: u64,
    pub accounts: u64,
    pub aliases: u64,
    pub devices: u64,
    pub outbox: u64,
    pub outbox_oldest_ms: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub disk_free_bytes: u64,
    /// False while the disk is nearly full, or the store can't be written.
    pub takes_mail: bool,
    pub log_end: String,
    pub replayed_frames: u64,
    pub rebuilt: bool,
    /// Acknowledged groups that the log has lost, as far as that is known.
    pub lost_groups: u64,
    /// Mailboxes that the last rebuild of the index had to put in order.
    pub mended_mailboxes: u64,
    /// Backups that are under way.
    #[serde(default)]
    pub backups_running: u64,
}

/// Whose fault it was; the command line makes an exit status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// What was asked for makes no sense.
    Usage,
    NotFound,
    Exists,
    /// It may work later.
    Temporary,
    Failed,
}

/// Why an operation was not done: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

/// One line of answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Ok(Reply),
    Error(Failure),
    /// It goes on: what it is at. Any number of these come before one of the others.
    Progress(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_travel_as_one_line() {
        let table = [
            (
                Request::AccountAdd {
                    address: "a@b.test".into(),
                    password: Password::new("x\ny".into()),
                },
                r#"{"op":"account-add","address":"a@b.test","password":"x\ny"}"#,
            ),
            (Request::Status, r#"{"op":"status"}"#),
        ];
        for (request, line) in table {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            serde_json::from_str::<Request>(line).unwrap();
        }
        for nonsense in ["", "{}", r#"{"op":"no"}"#, r#"{"op":"account-add"}"#] {
            assert!(serde_json::from_str::<Request>(nonsense).is_err());
        }
    }

    #[test]
    fn a_password_does_not_print() {
        let request = Request::AccountPasswd {
            address: "a@b.test".into(),
            password: Password::new("hunter2".into()),
        };
        assert!(!format!("{request:?}").contains("hunter2"));
    }
}
