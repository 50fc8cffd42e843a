//! The shell around the session: sockets, time, and the work that the machine asks for.
//!
//! May import: store, auth, net, config, mail, telemetry, types.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::parser::{Target, safe_name};
use super::reply::{Reply, store_error};
use super::session::{Admission, Answer, Envelope, Output, Role, Session, Settings, Work};
use crate::auth::{Auth, AuthError};
use crate::config::Config;
use crate::mail::trace;
use crate::net::{
    ConnectionLimits, LimitSource, ListenOptions, Listening, Peer, Places, Stream, TlsSource,
    listen,
};
use crate::store::{Login, Recipient, Resolution, Spool, Store, Whose};
use crate::telemetry::{Handshake, SmtpStanding, Telemetry};
use crate::types::{AccountId, Address, Domain};

/// What SMTP needs from the rest of the server.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub auth: Auth,
    /// Limits are those of the moment when a connection begins.
    pub config: Arc<ArcSwap<Config>>,
    pub tls: TlsSource,
    pub telemetry: Arc<Telemetry>,
    pub stop: CancellationToken,
}

/// How much is read at a time.
const READ: usize = 16 * 1024;
/// A peer that does not take a reply in this time is dropped.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Binds all SMTP listeners of the configuration and starts accepting. The error names the
/// address.
pub fn start(context: &Context) -> Result<Vec<Listening>, (std::net::SocketAddr, std::io::Error)> {
    let config = context.config.load();
    let smtp = &config.smtp;
    let kinds = [
        (&smtp.listen, Role::Mx, false),
        (&smtp.listen_submission, Role::Submission, false),
        (&smtp.listen_submission_tls, Role::Submission, true),
    ];
    let (live, places) = (context.config.clone(), Places::default());
    let limits: LimitSource = Arc::new(move || {
        let config = live.load();
        ConnectionLimits {
            connections: config.smtp.max_connections,
            per_ip: config.smtp.max_connections_per_ip,
            keepalive: Duration::from_secs(config.limits.keepalive_secs),
            handshake_timeout: Duration::from_secs(config.limits.tls_handshake_timeout_secs),
        }
    });
    let mut listening = Vec::new();
    for (addresses, role, implicit_tls) in kinds {
        for address in addresses {
            let options = ListenOptions {
                service: service(role),
                implicit_tls,
                limits: limits.clone(),
                places: places.clone(),
                busy_line: b"421 4.7.0 Too many connections, try again later\r\n",
            };
            let own = context.clone();
            let started = listen(
                *address,
                options,
                context.tls.clone(),
                context.telemetry.clone(),
                context.stop.clone(),
                move |stream, peer, stop| {
                    Box::pin(Connection::new(own.clone(), role, peer, stream, stop).run())
                },
            );
            listening.push(started.map_err(|error| (*address, error))?);
        }
    }
    Ok(listening)
}

/// A listener's name in metrics.
fn service(role: Role) -> &'static str {
    match role {
        Role::Mx => "smtp",
        Role::Submission => "submission",
    }
}

struct Connection {
    context: Context,
    config: Arc<Config>,
    role: Role,
    peer: Peer,
    stream: Option<Stream>,
    session: Session,
    spool: Spool,
    standing: SmtpStanding,
    login: Option<Login>,
    stop: CancellationToken,
}

impl Connection {
    fn new(
        context: Context,
        role: Role,
        peer: Peer,
        stream: Stream,
        stop: CancellationToken,
    ) -> Self {
        let config = context.config.load_full();
        let loopback = peer.remote.ip().to_canonical().is_loopback();
        let settings = Settings {
            role,
            hostname: config.hostname.clone(),
            limits: config.smtp.clone(),
            tls: stream.is_tls(),
            can_start_tls: true,
            clear_login: loopback && config.auth.insecure_loopback_login,
        };
        Self {
            session: Session::new(settings, Instant::now()),
            spool: context.store.spool(config.smtp.spool_bytes),
            standing: context.telemetry.connections.smtp(service(role)),
            login: None,
            context,
            config,
            role,
            peer,
            stream: Some(stream),
            stop,
        }
    }

    async fn run(mut self) {
        let mut buffer = vec![0; READ];
        let (mut told, mut revoked) = (false, false);
        loop {
            if !self.drain().await {
                return;
            }
            let Some(stream) = &mut self.stream else {
                return;
            };
            let deadline = self.session.deadline();
            let login = self.login.as_mut();
            let ended = async {
                match login {
                    Some(login) => login.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(n @ 1..) => self.session.input(Instant::now(), &buffer[..n]),
                    // The peer is gone; what it did not finish is nobody's.
                    Ok(_) | Err(_) => return,
                },
                () = tokio::time::sleep_until(deadline.into()) => self.session.timeout(),
                () = ended, if !revoked => {
                    revoked = true;
                    self.session.revoked();
                }
                () = self.stop.cancelled(), if !told => {
                    told = true;
                    self.session.shutdown();
                }
            }
        }
    }

    /// Does what the machine wants until it waits for input; false at the end.
    async fn drain(&mut self) -> bool {
        let mut silent = true;
        while let Some(output) = self.session.poll() {
            silent &= matches!(output, Output::Message(_));
            for why in self.session.take_refusals() {
                let metrics = &self.context.telemetry.smtp;
                metrics.refused(self.role_name(), why);
            }
            self.standing.set(self.session.state());
            match output {
                Output::Write(bytes) => {
                    let Some(stream) = &mut self.stream else {
                        return false;
                    };
                    let written = async {
                        stream.write_all(&bytes).await?;
                        stream.flush().await
                    };
                    if !matches!(
                        tokio::time::timeout(WRITE_PATIENCE, written).await,
                        Ok(Ok(()))
                    ) {
                        return false;
                    }
                }
                Output::Message(bytes) => self.spool.push(&bytes),
                Output::Discard => self.spool.clear(),
                Output::Refused(code) => {
                    let class = if code < 500 { "deferred" } else { "refused" };
                    let metrics = &self.context.telemetry.smtp;
                    metrics.not_accepted(self.role_name(), self.ip(), class, code);
                }
                Output::Work(work) => {
                    let answer = self.work(work).await;
                    self.session.answer(Instant::now(), answer);
                }
                Output::StartTls => {
                    let Some(stream) = self.stream.take() else {
                        return false;
                    };
                    let limit = Duration::from_secs(self.config.limits.tls_handshake_timeout_secs);
                    let started = stream.start_tls((self.context.tls)(), limit).await;
                    let net = &self.context.telemetry.net;
                    net.handshake(service(self.role), Handshake::of(&started));
                    match started {
                        Ok(stream) => self.stream = Some(stream),
                        Err(error) => {
                            tracing::debug!(peer = %self.peer.remote, %error, "TLS handshake failed");
                            return false;
                        }
                    }
                    self.session.tls_started(Instant::now());
                }
                Output::Close => {
                    if let Some(stream) = &mut self.stream {
                        let _ = tokio::time::timeout(WRITE_PATIENCE, stream.shutdown()).await;
                    }
                    return false;
                }
            }
        }
        self.standing.set(self.session.state());
        if silent && let Some(stream) = &self.stream {
            stream.acknowledge();
        }
        true
    }

    fn role_name(&self) -> &'static str {
        match self.role {
            Role::Mx => "mx",
            Role::Submission => "submission",
        }
    }

    fn ip(&self) -> IpAddr {
        self.peer.remote.ip().to_canonical()
    }

    async fn work(&mut self, work: Work) -> Answer {
        match work {
            Work::Resolve(Target::Address(address)) => {
                let store = &self.context.store;
                let resolution = store.resolve(&address);
                // Before the message, so that others get it.
                match &resolution {
                    Resolution::Accounts(all) if !all.iter().all(|a| store.has_room_for(*a)) => {
                        Answer::Full
                    }
                    _ => Answer::Resolved(resolution),
                }
            }
            Work::Resolve(Target::Postmaster) => Answer::Resolved(self.postmaster()),
            Work::Login {
                authzid,
                login,
                password,
            } => {
                let checked = self
                    .context
                    .auth
                    .login(&login, &password, self.ip(), "submission")
                    .await;
                Answer::LoggedIn(checked.and_then(|account| {
                    let same = Address::parse(&authzid)
                        .is_ok_and(|a| a.lookup_key() == account.address.lookup_key());
                    if authzid.is_empty() || same || authzid == login {
                        let id = account.id;
                        self.login = Some(Login::new(self.context.store.clone(), account));
                        Ok(id)
                    } else {
                        Err(AuthError::Invalid)
                    }
                }))
            }
            Work::Admit {
                account,
                from,
                size,
            } => Answer::Admitted(self.admit(account, from, size)),
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
        store
            .deliver(message, now, recipients)
            .await
            .map_err(|error| store_error(&error))?;
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
            helo: &safe_name(&envelope.helo),
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
