//! What an administrator can do, on an open store.
//!
//! May import: store, auth, config, telemetry, types. Every failure says what, where, and what to do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

use super::check::{parse_address, parse_domain};
use super::devices::{DeviceError, Devices, NewDevice, info};
use super::protocol::*;
use super::subscription::{Subscription, SubscriptionKeys};
use crate::auth::{Auth, AuthError};
use crate::store::backup::Hold;
use crate::store::{Account, Alias, Credentials, Device, Progress, Resolution, Store, StoreError};
use crate::telemetry::Telemetry;
use crate::transfer::serve::{Bounds, Transfers};
use crate::types::{AccountId, Address, DeviceId, Domain, UnixMillis};

/// Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(super) store: Store,
    auth: Auth,
    devices: Devices,
    telemetry: Arc<Telemetry>,
    /// None: no server runs, the command line itself holds the store.
    running_since: Option<Instant>,
    transfers: Transfers,
}

type Done = Result<Reply, Failure>;

/// Where is told how far something is.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// An import or export that may begin.
pub enum Transfer {
    Import(Transfers, AccountId),
    Export(Transfers, Vec<(AccountId, String)>, Option<String>),
}

impl Transfer {
    pub async fn run(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
    ) -> std::io::Result<()> {
        match self {
            Self::Import(transfers, account) => transfers.import(stream, account).await,
            Self::Export(transfers, accounts, mailbox) => {
                transfers.export(stream, accounts, mailbox).await
            }
        }
    }
}

impl Operations {
    pub fn new(
        store: Store,
        auth: Auth,
        devices: Devices,
        telemetry: Arc<Telemetry>,
        running_since: Option<Instant>,
        transfers: Bounds,
    ) -> Self {
        Self {
            transfers: Transfers::new(store.clone(), transfers),
            store,
            auth,
            devices,
            telemetry,
            running_since,
        }
    }

    /// Does it. What takes long tells how far it is.
    pub async fn run(&self, request: Request, tell: &Tell) -> Done {
        let progress = || -> Progress {
            let tell = Arc::clone(tell);
            Box::new(move |text| tell(text))
        };
        match request {
            Request::StoreImage => {
                let taken = self.store.take_image(progress()).await;
                let image = taken.map_err(|error| explain(error, "the store"))?;
                Ok(Reply::Image { image })
            }
            Request::StoreCheck { deep } => {
                let report = self.store.check(deep, progress()).await;
                let mut report = report.map_err(|error| explain(error, "the store"))?;
                if self.running_since.is_none() && self.store.status().rebuilt {
                    let text = "the index was missing or damaged, and was built anew just now";
                    report.problems.insert(0, text.into());
                    report.ok = false;
                }
                Ok(Reply::Checked {
                    report: Box::new(report),
                })
            }
            // It is as long as its connection, which is not known here.
            Request::StoreHold => Err(Failure::new(
                FailureKind::Usage,
                "files are held on a connection of their own",
            )),
            Request::StoreCompact => {
                let done = self.store.compact(progress()).await;
                let compacted = done.map_err(|error| explain(error, "the store"))?;
                Ok(Reply::Compacted { compacted })
            }
            Request::AccountAdd { address, password } => self.account_add(&address, password).await,
            Request::AccountPasswd { address, password } => {
                let account = self.account(&address)?;
                let credentials = self.credentials(&account.address, &password).await?;
                self.store
                    .account_set_credentials(account.id, credentials)
                    .await
                    .map_err(|error| explain(error, &address))?;
                done(format!("{} has a new password", account.address))
            }
            Request::AccountRemove { address, keep_days } => {
                self.account_remove(&address, keep_days).await
            }
            Request::AccountRestore { address } => self.account_restore(&address).await,
            Request::AccountQuota {
                address,
                bytes,
                messages,
            } => self.account_quota(&address, bytes, messages).await,
            Request::AccountList => self.account_list(),
            Request::AccountShow { address } => self.account_show(&address),
            Request::AliasAdd { address, targets } => self.alias_add(&address, &targets).await,
            Request::AliasRemove { address } => {
                let alias = parse_address(&address)?;
                self.store
                    .alias_remove(alias)
                    .await
                    .map_err(|error| explain(error, &address))?;
                done(format!("alias {address} is removed"))
            }
            Request::AliasList => {
                let directory = self.store.directory();
                let mut aliases: Vec<_> = directory
                    .aliases()
                    .map(|alias| AliasView {
                        address: alias.address.to_string(),
                        targets: alias.targets.iter().map(Address::to_string).collect(),
                    })
                    .collect();
                aliases.sort_by(|a, b| a.address.cmp(&b.address));
                Ok(Reply::Aliases { aliases })
            }
            Request::DomainAdd { domain } => {
                let name = parse_domain(&domain)?;
                self.store
                    .domain_add(name.clone())
                    .await
                    .map_err(|error| explain(error, &domain))?;
                done(format!("domain {name} is added"))
            }
            Request::DomainRemove { domain } => {
                let name = parse_domain(&domain)?;
                self.store
                    .domain_remove(name.clone())
                    .await
                    .map_err(|error| explain(error, &domain))?;
                done(format!("domain {name} is removed"))
            }
            Request::DomainList => Ok(self.domains()),
            Request::DeviceList { address } => {
                let account = self.account(&address)?;
                let devices = self.devices_of(&account)?;
                Ok(Reply::Devices { devices })
            }
            Request::DeviceAdd { address, device } => self.device_add(&address, device).await,
            Request::DeviceRemove { address, id } => self.device_remove(&address, id).await,
            Request::DeviceTest { address, id } => self.device_test(&address, id).await,
            Request::Status => Ok(Reply::Status {
                status: Box::new(self.status()),
            }),
            // What can be done goes over a stream of its own, so this says why it can't.
            Request::Import { .. } | Request::Export { .. } => {
                self.transfer(&request)?;
                let text = "an import or export needs a stream of its own";
                Err(Failure::new(FailureKind::Usage, text))
            }
        }
    }

    /// Holds the store's files until what it gives is dropped.
    pub async fn hold(&self, tell: &Tell) -> Result<Hold, Failure> {
        let tell = Arc::clone(tell);
        let held = self.store.hold(Box::new(move |text| tell(text))).await;
        held.map_err(|error| explain(error, "the store"))
    }

    /// The import or export that is asked for, ready to run over a stream. None: it is something
    /// else.
    pub fn transfer(&self, request: &Request) -> Result<Option<Transfer>, Failure> {
        let transfers = self.transfers.clone();
        Ok(match request {
            Request::Import { address } => {
                let account = self.account(address)?.id;
                Some(Transfer::Import(transfers, account))
            }
            Request::Export { address, mailbox } => {
                let accounts = match address {
                    Some(address) => vec![self.account(address)?],
                    None => self.store.directory().accounts().cloned().collect(),
                };
                let accounts = accounts.iter().map(|a| (a.id, a.address.to_string()));
                Some(Transfer::Export(
                    transfers,
                    accounts.collect(),
                    mailbox.clone(),
                ))
            }
            _ => None,
        })
    }

    async fn account_add(&self, address: &str, password: Password) -> Done {
        let parsed = parse_address(address)?;
        let directory = self.store.directory();
        if !directory.domains().any(|d| d.domain == *parsed.domain()) {
            let domain = parsed.domain();
            return Err(Failure::new(
                FailureKind::NotFound,
                format!(
                    "{domain} is not a domain of this server; add it first: posthorn domain add {domain}"
                ),
            ));
        }
        let credentials = self.credentials(&parsed, &password).await?;
        self.store
            .account_create(parsed.clone(), credentials)
            .await
            .map_err(|error| self.explain_add(error, address))?;
        done(format!("account {parsed} is added"))
    }

    async fn alias_add(&self, address: &str, targets: &[String]) -> Done {
        let alias = Alias {
            address: parse_address(address)?,
            targets: targets
                .iter()
                .map(|target| parse_address(target))
                .collect::<Result<_, _>>()?,
        };
        if alias.targets.is_empty() {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("alias {address} needs at least one target"),
            ));
        }
        let replaced = self.store.directory().aliases().any(|known| {
            known.address.lookup_key() == alias.address.lookup_key()
                && known.targets != alias.targets
        });
        let nobody: Vec<String> = alias
            .targets
            .iter()
            .filter(|target| !matches!(self.store.resolve(target), Resolution::Accounts(_)))
            .map(Address::to_string)
            .collect();
        self.store
            .alias_put(alias)
            .await
            .map_err(|error| explain(error, address))?;
        let mut told = format!("alias {address} delivers to {}", targets.join(", "));
        if replaced {
            told.push_str("; what it delivered to before is replaced");
        }
        if !nobody.is_empty() {
            let nobody = nobody.join(", ");
            told.push_str(&format!(
                "; nobody reads {nobody}: add an account or alias of that name"
            ));
        }
        done(told)
    }

    async fn device_remove(&self, address: &str, id: u32) -> Done {
        let account = self.account(address)?;
        let removed = self.devices.remove(account.id, DeviceId(id)).await;
        removed.map_err(|error| device_failure(&error, address, id))?;
        done(format!("device {id} of {} is removed", account.address))
    }

    async fn device_add(&self, address: &str, device: NewWebPush) -> Done {
        let account = self.account(address)?;
        let new = NewDevice {
            name: device.name,
            subscription: Subscription {
                endpoint: device.endpoint,
                expiration_time: None,
                keys: SubscriptionKeys {
                    p256dh: device.p256dh,
                    auth: device.auth,
                },
            },
            show: Default::default(),
        };
        let added = self.devices.add(account.id, new).await;
        let added = added.map_err(|error| device_failure(&error, address, 0))?;
        let device = self.store.device(account.id, DeviceId(added.id));
        let device = device.and_then(|device| device.ok_or(StoreError::NoDevice));
        let device = device.map_err(|error| explain(error, address))?;
        Ok(Reply::Device {
            device: Box::new(device_view(&device)),
            pushed: self.running_since.is_some(),
        })
    }

    async fn device_test(&self, address: &str, id: u32) -> Done {
        let account = self.account(address)?;
        let tested = self.devices.test(account.id, DeviceId(id)).await;
        let tested = tested.map_err(|error| device_failure(&error, address, id))?;
        Ok(Reply::Tested {
            delivered: tested.outcome == "delivered",
            outcome: tested.outcome,
            status: tested.status,
            answer: tested.answer,
        })
    }

    fn account_show(&self, address: &str) -> Done {
        let account = self.account(address)?;
        let failed = |error| explain(error, address);
        let mut mailboxes = Vec::new();
        for mailbox in &self.store.mailboxes(account.id).map_err(failed)?.mailboxes {
            let status = self.store.mailbox_status(mailbox.key).map_err(failed)?;
            mailboxes.push(MailboxView {
                name: mailbox.name.clone(),
                messages: status.messages,
                unseen: status.unseen,
                bytes: status.size,
            });
        }
        let directory = self.store.directory();
        let mut aliases: Vec<_> = directory
            .aliases()
            .filter(|alias| {
                alias
                    .targets
                    .iter()
                    .any(|target| target.lookup_key() == account.address.lookup_key())
            })
            .map(|alias| alias.address.to_string())
            .collect();
        aliases.sort();
        Ok(Reply::Account {
            account: Box::new(AccountDetail {
                account: self.view(&account).map_err(failed)?,
                mailboxes,
                aliases,
                devices: self.devices_of(&account)?,
            }),
        })
    }

    fn domains(&self) -> Reply {
        let directory = self.store.directory();
        let mut accounts: HashMap<&Domain, u64> = HashMap::new();
        for account in directory.accounts() {
            *accounts.entry(account.address.domain()).or_default() += 1;
        }
        let mut domains: Vec<_> = directory
            .domains()
            .map(|domain| DomainView {
                domain: domain.domain.to_string(),
                created: when(domain.created),
                accounts: accounts.get(&domain.domain).copied().unwrap_or(0),
            })
            .collect();
        domains.sort_by(|a, b| a.domain.cmp(&b.domain));
        Reply::Domains { domains }
    }

    fn devices_of(&self, account: &Account) -> Result<Vec<DeviceView>, Failure> {
        let devices = self
            .store
            .devices(account.id)
            .map_err(|error| explain(error, &account.address.to_string()))?;
        Ok(devices.iter().map(device_view).collect())
    }

    fn status(&self) -> StatusView {
        let store = self.store.status();
        let connections = self
            .telemetry
            .gauge_by("posthorn_net_connections", "service")
            .into_iter()
            .map(|(service, count)| (service, count as u64))
            .collect();
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            running: self.running_since.is_some(),
            uptime_secs: self.running_since.map_or(0, |at| at.elapsed().as_secs()),
            connections,
            domains: store.domains,
            accounts: store.accounts,
            aliases: store.aliases,
            devices: store.devices,
            outbox: store.outbox,
            outbox_oldest_ms: store.outbox_oldest_ms,
            log_bytes: store.log_bytes,
            index_bytes: store.index_bytes,
            disk_free_bytes: store.disk_free_bytes,
            takes_mail: store.takes_mail,
            log_end: store.log_end,
            replayed_frames: store.replayed_frames,
            rebuilt: store.rebuilt,
            lost_groups: store.lost_groups,
            mended_mailboxes: store.mended_mailboxes,
            backups_running: store.backups_running,
        }
    }

    pub(super) fn account(&self, address: &str) -> Result<Arc<Account>, Failure> {
        let parsed = parse_address(address)?;
        self.store
            .directory()
            .account_by_address(&parsed)
            .cloned()
            .ok_or_else(|| {
                Failure::new(
                    FailureKind::NotFound,
                    format!("there is no account {parsed}; see posthorn account list"),
                )
            })
    }

    async fn credentials(
        &self,
        address: &Address,
        password: &Password,
    ) -> Result<Credentials, Failure> {
        if password.is_empty() {
            return Err(Failure::new(FailureKind::Usage, "the password is empty"));
        }
        self.auth
            .credentials(address, &password.secret())
            .await
            .map_err(|error| match error {
                AuthError::Store(error) => explain(error, "the store"),
                _ => Failure::new(
                    FailureKind::Temporary,
                    "the password could not be hashed: too many logins wait, or it is longer \
                     than 1024 bytes",
                ),
            })
    }
}

pub(super) fn done(message: String) -> Done {
    Ok(Reply::Done { message })
}

/// The store's errors in an administrator's words.
pub(super) fn explain(error: StoreError, what: &str) -> Failure {
    let (kind, advice) = match &error {
        StoreError::Busy => (FailureKind::Temporary, "; try again"),
        StoreError::DiskFull => (
            FailureKind::Temporary,
            "; free some space, or lower store.reserve_bytes",
        ),
        StoreError::Write(_) => (FailureKind::Temporary, "; look at the disk and the log"),
        StoreError::Closed => (FailureKind::Temporary, "; try again when it runs"),
        StoreError::NoAccount => (FailureKind::NotFound, "; see posthorn account list"),
        StoreError::NoDomain => (FailureKind::NotFound, "; see posthorn domain list"),
        StoreError::NoAlias => (FailureKind::NotFound, "; see posthorn alias list"),
        StoreError::NoDevice => (FailureKind::NotFound, "; see posthorn device list"),
        StoreError::NoMailbox | StoreError::Expunged => (FailureKind::NotFound, ""),
        StoreError::Exists => (FailureKind::Exists, ""),
        StoreError::Invalid(_)
        | StoreError::Limit(_)
        | StoreError::MailboxFull
        | StoreError::OverQuota
        | StoreError::UseTaken
        | StoreError::HasChildren => (FailureKind::Failed, ""),
        StoreError::DamagedBody | StoreError::Index(_) => {
            (FailureKind::Failed, "; look at the server's log")
        }
    };
    Failure::new(kind, format!("{what}: {error}{advice}"))
}

fn device_view(device: &Device) -> DeviceView {
    let shown = info(device);
    DeviceView {
        id: shown.id,
        name: shown.name,
        kind: shown.kind.into(),
        state: shown.state.into(),
        reason: shown.reason,
        show: shown.show,
        origin: shown.origin,
        endpoint_hash: shown.endpoint_hash,
        last_success: device.last_success.map(when),
        last_failure: device.last_failure.map(when),
        last_error: shown.last_error,
        failures: shown.failures,
    }
}

pub(super) fn when(at: UnixMillis) -> String {
    i64::try_from(at.secs())
        .ok()
        .and_then(|secs| Timestamp::from_second(secs).ok())
        .map_or_else(|| at.0.to_string(), |at| at.to_string())
}

fn device_failure(error: &DeviceError, address: &str, id: u32) -> Failure {
    let kind = match error {
        DeviceError::NotFound => FailureKind::NotFound,
        _ => FailureKind::Failed,
    };
    let what = if id == 0 {
        address.to_owned()
    } else {
        format!("device {id} of {address}")
    };
    Failure::new(kind, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ContentLevel, DeviceKind, DeviceState};

    #[test]
    fn of_an_endpoint_only_the_origin_and_a_hash_are_shown() {
        let device = |endpoint: &str| Device {
            id: DeviceId(3),
            account: AccountId(1),
            name: "phone".into(),
            kind: DeviceKind::WebPush {
                endpoint: endpoint.into(),
                p256dh: vec![],
                auth: vec![],
                vapid_key: vec![],
            },
            state: DeviceState::Paused {
                reason: "its owner paused it".into(),
            },
            show: ContentLevel::Sender,
            created: UnixMillis(0),
            last_success: None,
            last_failure: None,
            last_error: None,
            failures: 0,
        };
        for (endpoint, origin) in [
            (
                "https://push.example.org/secret",
                "https://push.example.org",
            ),
            ("http://127.0.0.1:99/a/secret", "http://127.0.0.1:99"),
        ] {
            let view = device_view(&device(endpoint));
            assert_eq!(view.origin, origin);
            assert_eq!(view.endpoint_hash.len(), 16);
            let json = serde_json::to_value(&view).expect("JSON");
            assert_eq!(json["reason"], "its owner paused it");
            assert_eq!(json["show"], "sender");
            assert!(!json.to_string().contains("secret"));
        }
    }

    #[test]
    fn time_is_rfc_3339() {
        assert_eq!(when(UnixMillis(1_500)), "1970-01-01T00:00:01Z");
    }
}
