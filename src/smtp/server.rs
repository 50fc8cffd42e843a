//! The shell around the session: sockets, time, and the work that the machine asks for.
//!
//! May import: store, auth, net, config, telemetry, types.

mod work;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::session::{Output, Role, Session, Settings};
use crate::auth::Auth;
use crate::auth::sasl::Binding;
use crate::config::Config;
use crate::net::{
    ConnectionLimits, LimitSource, ListenOptions, Listening, Peer, Places, Stream, TlsSource,
    listen,
};
use crate::store::{Login, Passage, Spool, Store};
use crate::telemetry::{Handshake, SmtpStanding, Telemetry};
use crate::tls::EndPointSource;

/// What SMTP needs from the rest of the server.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub auth: Auth,
    /// Limits are those of the moment when a connection begins.
    pub config: Arc<ArcSwap<Config>>,
    pub tls: TlsSource,
    /// What a login is bound to by `tls-server-end-point` (RFC 5929, 4); None: this certificate
    /// has nothing of the sort.
    pub end_point: EndPointSource,
    pub telemetry: Arc<Telemetry>,
    pub stop: CancellationToken,
}

impl Context {
    /// What is on this side of a login's binding.
    fn bound(&self, stream: &Stream, binding: Binding) -> Option<Vec<u8>> {
        match binding {
            Binding::TlsExporter => stream.exporter(),
            Binding::TlsServerEndPoint if stream.is_tls() => (self.end_point)(),
            Binding::TlsServerEndPoint => None,
        }
    }
}

/// How much is read at a time.
const READ: usize = 16 * 1024;
/// A peer that does not take a reply in this time is dropped.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// How long, and how much, a peer that has been told the end may still send.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

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
    let live = context.config.clone();
    // Other servers, who are anybody, take no places of users.
    let (of_servers, of_users) = (Places::default(), Places::default());
    let limits: LimitSource = Arc::new(move || {
        let config = live.load();
        ConnectionLimits {
            connections: config.smtp.max_connections,
            per_ip: config.smtp.max_connections_per_ip,
            keepalive: Duration::from_secs(config.limits.keepalive_secs),
            unsent_bytes: config.limits.unsent_bytes,
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
                places: match role {
                    Role::Mx => of_servers.clone(),
                    Role::Submission => of_users.clone(),
                },
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
    /// What a URL names, while it comes in (RFC 4468).
    part: Option<Passage>,
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
            offered: context.auth.offered(),
        };
        Self {
            session: Session::new(settings, Instant::now()),
            spool: context.store.spool(config.smtp.spool_bytes),
            standing: context.telemetry.connections.smtp(service(role)),
            login: None,
            part: None,
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
            // A peer that always has more to say would else have many turns before others.
            tokio::task::yield_now().await;
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
                    if let Some(mut stream) = self.stream.take() {
                        let shut = tokio::time::timeout(WRITE_PATIENCE, stream.shutdown()).await;
                        if matches!(shut, Ok(Ok(()))) {
                            linger(&mut stream, &self.stop).await;
                        }
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
}

/// Reads away what is still under way: a socket that is closed over unread bytes is reset, and
/// the last reply may be lost by it.
async fn linger(stream: &mut Stream, stop: &CancellationToken) {
    let read = async {
        let mut buffer = vec![0; READ];
        let mut left = LINGER_BYTES;
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(n);
            if left == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = read => {}
        () = tokio::time::sleep(LINGER) => {}
        () = stop.cancelled() => {}
    }
}
