//! What the machine asks for: recipients, logins, delivery.
//!
//! May import: store, auth, config, mail, telemetry, types.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Connection;
use crate::auth::sasl::Found;
use crate::mail::trace;
use crate::smtp::parser::{Target, safe_name};
use crate::smtp::reply::{Reply, store_error};
use crate::smtp::session::{Admission, Answer, Envelope, Expected, PartError, Role, Work};
use crate::store::{Fits, Login, Recipient, Resolution, StoreError, UrlReader, Whose};
use crate::telemetry::OverQuota;
use crate::types::{AccountId, Address, Domain};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Connection {
    pub(super) async fn work(&mut self, work: Work) -> Answer {
        match work {
            Work::Resolve(target, expected) => self.resolve(&target, expected),
            Work::Login(claim) => {
                let auth = &self.context.auth;
                let checked = auth.check(&claim, self.ip(), "submission").await;
                Answer::LoggedIn(checked.map(|account| {
                    let id = account.id;
                    self.login = Some(Login::new(self.context.store.clone(), account));
                    id
                }))
            }
            Work::Lookup(lookup) => {
                let stream = self.stream.as_ref();
                let bound = lookup
                    .binding
                    .and_then(|binding| self.context.bound(stream?, binding));
                let found = self.context.auth.look_up(&lookup, self.ip());
                Answer::Found(found.map(|found| Found {
                    binding: bound,
                    ..found
                }))
            }
            Work::Admit {
                account,
                from,
                size,
            } => Answer::Admitted(self.admit(account, from, size)),
            Work::OpenUrl(url) => Answer::Part(self.open_url(&url).await),
            Work::ReadUrl => Answer::Part(self.read_url()),
            Work::Deliver(envelope) => {
                let started = Instant::now();
                let (size, recipients) = (envelope.size, envelope.recipients.len());
                let result = self.deliver(envelope).await;
                self.spool.clear();
                let role = self.role_name();
                let metrics = &self.context.telemetry.smtp;
                Answer::Delivered(match result {
                    Ok(id) => {
                        metrics.accepted(role, self.ip(), size, recipients, &id, started.elapsed());
                        Ok(format!("Stored as {id}"))
                    }
                    Err(reply) => {
                        metrics.not_accepted(role, self.ip(), reply.class(), reply.code);
                        Err(reply)
                    }
                })
            }
        }
    }

    /// RFC 4468, 3.3: the URL must be for the user who submits.
    async fn open_url(&mut self, url: &str) -> Result<Option<Vec<u8>>, PartError> {
        self.part = None;
        let account = match &self.login {
            Some(login) if login.holds() => login.account().id,
            _ => return Err(PartError::Refused),
        };
        let store = &self.context.store;
        let reader = UrlReader::Submitter(account);
        match store.url_passage(url, reader, &self.config.hostname).await {
            Ok(Some(passage)) => {
                self.part = Some(passage);
                self.read_url()
            }
            Ok(None) => Err(PartError::Refused),
            Err(error) => Err(part_error(&error)),
        }
    }

    fn read_url(&mut self) -> Result<Option<Vec<u8>>, PartError> {
        let Some(passage) = &mut self.part else {
            return Ok(None);
        };
        let piece = passage.next_piece().map_err(|error| part_error(&error));
        if !matches!(piece, Ok(Some(_))) {
            self.part = None;
        }
        piece.map(|piece| piece.map(|bytes| bytes.to_vec()))
    }

    /// Before the message, so that others get it.
    fn resolve(&self, target: &Target, expected: Expected) -> Answer {
        let store = &self.context.store;
        let resolution = match target {
            Target::Address(address) => store.resolve(address),
            Target::Postmaster => self.postmaster(),
        };
        let Resolution::Accounts(all) = &resolution else {
            return Answer::Resolved(resolution);
        };
        if !all.iter().all(|account| store.has_room_for(*account)) {
            return Answer::Full;
        }
        let fits = |account: &AccountId| store.fits(*account, expected.least, expected.most);
        let found: Vec<Fits> = all.iter().map(fits).collect();
        if found.contains(&Fits::No) {
            self.context.telemetry.store.over_quota(OverQuota::Delivery);
            return Answer::OverQuota;
        }
        match found.contains(&Fits::Perhaps) {
            true => Answer::Tight(resolution),
            false => Answer::Resolved(resolution),
        }
    }

    fn admit(&self, account: Option<AccountId>, from: Option<Address>, size: u64) -> Admission {
        let store = &self.context.store;
        if let Some(account) = account {
            if !self.may_send() {
                return Admission::NoAccount;
            }
            let yours = from.is_none_or(|from| match store.resolve(&from) {
                Resolution::Accounts(accounts) => accounts.contains(&account),
                _ => false,
            });
            if !yours {
                return Admission::NotYours;
            }
        }
        if store.has_room(size) {
            Admission::Yes
        } else {
            Admission::NoRoom
        }
    }

    /// Does the login still hold? The account may have changed under the session.
    fn may_send(&self) -> bool {
        self.login.as_ref().is_some_and(Login::holds)
    }

    /// `<Postmaster>` without a domain: of the domain that this server is named in, else of any.
    fn postmaster(&self) -> Resolution {
        let store = &self.context.store;
        let directory = store.directory();
        let domains = directory.domains().map(|d| d.domain.clone()).collect();
        for domain in nearest_first(&self.config.hostname, domains) {
            if let Ok(address) = Address::from_parts("postmaster".into(), domain)
                && let found @ Resolution::Accounts(_) = store.resolve(&address)
            {
                return found;
            }
        }
        Resolution::NoUser
    }

    async fn deliver(&mut self, envelope: Envelope) -> Result<String, Reply> {
        let store = self.context.store.clone();
        let now = store.now();
        if envelope.account.is_some() && !self.may_send() {
            return Err(Reply::new(
                550,
                "5.7.1",
                "Your account changed, log in again",
            ));
        }
        let id = format!(
            "{:x}{:04x}",
            now.0,
            NEXT_ID.fetch_add(1, Ordering::Relaxed) & 0xffff
        );
        let mut lines = self.received_line(&envelope, &id, now.0);
        if self.role == Role::Submission {
            let hostname = &self.config.hostname;
            let missing = trace::missing_lines(&envelope.header, now.0, &id, hostname);
            lines.extend_from_slice(&missing);
        }
        if envelope.header.missing {
            lines.extend_from_slice(b"\r\n");
        }
        let whose = envelope
            .account
            .map_or_else(|| Whose::peer(self.ip()), Whose::Account);
        let message = self
            .spool
            .finish(lines, whose)
            .await
            .map_err(|error| store_error(&error))?;
        let return_path = envelope
            .from
            .as_ref()
            .map(Address::to_string)
            .unwrap_or_default();
        let mut recipients: Vec<Recipient> = Vec::new();
        let mut seen: Vec<AccountId> = Vec::new();
        for accepted in &envelope.recipients {
            for account in &accepted.accounts {
                if !seen.contains(account) {
                    seen.push(*account);
                    recipients.push(Recipient {
                        account: *account,
                        mailbox: None,
                        flags: vec![],
                        prefix: trace::recipient_prefix(&return_path, &accepted.given),
                    });
                }
            }
        }
        let several = self.role == Role::Mx && envelope.recipients.len() > 1;
        let stored = store.deliver(message, now, recipients).await;
        stored.map_err(|error| match error {
            // They all had room when they were named, so one was filled meanwhile: when the peer
            // comes again it is told which.
            StoreError::OverQuota if several => {
                Reply::new(452, "4.2.2", "A mailbox became full meanwhile, try again")
            }
            error => store_error(&error),
        })?;
        Ok(id)
    }

    fn received_line(&self, envelope: &Envelope, id: &str, at: u64) -> Vec<u8> {
        // RFC 3848; RFC 6531, 4.3
        let base = match (envelope.esmtp, envelope.smtp_utf8) {
            (true, true) => "UTF8SMTP",
            (true, false) => "ESMTP",
            (false, _) => "SMTP",
        };
        let s = if envelope.tls { "S" } else { "" };
        let a = if envelope.account.is_some() { "A" } else { "" };
        let with = if base == "SMTP" {
            base.to_owned()
        } else {
            format!("{base}{s}{a}")
        };
        let tls = self.stream.as_ref().and_then(|stream| {
            let cipher = stream.cipher().unwrap_or_default();
            stream
                .protocol()
                .map(|version| format!("{version} {cipher}"))
        });
        let one = match &envelope.recipients[..] {
            [one] => Some(one.given.as_str()),
            _ => None,
        };
        let mut line = Vec::new();
        trace::Received {
            helo: safe_name(&envelope.helo).as_deref(),
            client: self.ip(),
            by: &self.config.hostname,
            with: &with,
            tls: tls.as_deref(),
            id,
            recipient: one,
            at,
        }
        .write(&mut line);
        line
    }
}

fn part_error(error: &StoreError) -> PartError {
    match error {
        StoreError::Expunged | StoreError::DamagedBody => PartError::Refused,
        _ => PartError::Temporary,
    }
}

/// The domain that `hostname` is, or lies in, before the others.
fn nearest_first(hostname: &str, mut domains: Vec<Domain>) -> Vec<Domain> {
    let hostname = hostname.to_ascii_lowercase();
    let own = |domain: &str| {
        let before = hostname.strip_suffix(domain);
        before.is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
    };
    domains.sort_by_key(|domain| {
        let nearness = own(domain.as_str()).then(|| domain.as_str().len());
        (std::cmp::Reverse(nearness), domain.clone())
    });
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_domain_is_asked_first() {
        let order = |hostname: &str, domains: &[&str]| {
            let domains = domains.iter().map(|d| Domain::parse(d).expect("valid"));
            let sorted = nearest_first(hostname, domains.collect());
            sorted
                .iter()
                .map(|d| d.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        for (hostname, domains, sorted) in [
            ("mail.x.test", ["a.test", "x.test"], ["x.test", "a.test"]),
            ("MAIL.X.test", ["a.test", "x.test"], ["x.test", "a.test"]),
            ("x.test", ["a.test", "x.test"], ["x.test", "a.test"]),
            (
                "mail.notx.test",
                ["x.test", "notx.test"],
                ["notx.test", "x.test"],
            ),
            ("mail.notx.test", ["x.test", "b.test"], ["b.test", "x.test"]),
            (
                "mx.sub.x.test",
                ["x.test", "sub.x.test"],
                ["sub.x.test", "x.test"],
            ),
            ("else.where", ["b.test", "a.test"], ["a.test", "b.test"]),
        ] {
            assert_eq!(order(hostname, &domains), sorted, "{hostname}");
        }
    }
}
