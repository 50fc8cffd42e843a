//! The shell around the session: sockets, time, and the work that the machine asks for.
//!
//! May import: store, auth, net, config, telemetry, types.
//!
//! While a connection idles it holds its session state, its TLS state and nothing else: it
//! waits for the socket without a buffer, and output is written and let go.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use super::exec::{Exec, Gone, Incoming, NotifyLimits, Out};
use super::keys::KeyCache;
use super::session::{Output, Session, Settings};
use crate::auth::sasl::{Binding, Claim, Found};
use crate::auth::{Auth, AuthError};
use crate::config::Config;
use crate::net::{
    ConnectionLimits, LimitSource, ListenOptions, Listening, Peer, Places, Stream, TlsSource,
    listen,
};
use crate::store::{Login, Store};
use crate::telemetry::{Handshake, ImapEnd, ImapResult, ImapStanding, Telemetry};
use crate::tls::EndPointSource;
use crate::types::Uid;

/// What IMAP needs from the rest of the server.
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
    /// What is known of messages, for all connections.
    pub keys: Arc<KeyCache>,
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

/// A compressed connection that is silent for so long keeps only what it can't do without.
const REST: Duration = Duration::from_millis(500);

/// Binds all IMAP listeners of the configuration and starts accepting. The error names the
/// address.
pub fn start(context: &Context) -> Result<Vec<Listening>, (std::net::SocketAddr, std::io::Error)> {
    let config = context.config.load();
    let imap = &config.imap;
    let (live, places) = (context.config.clone(), Places::default());
    let limits: LimitSource = Arc::new(move || {
        let config = live.load();
        ConnectionLimits {
            connections: config.imap.max_connections,
            per_ip: config.imap.max_connections_per_ip,
            keepalive: Duration::from_secs(config.limits.keepalive_secs),
            unsent_bytes: config.limits.unsent_bytes,
            handshake_timeout: Duration::from_secs(config.limits.tls_handshake_timeout_secs),
        }
    });
    let mut listening = Vec::new();
    for (addresses, implicit_tls) in [(&imap.listen, false), (&imap.listen_tls, true)] {
        for address in addresses {
            let options = ListenOptions {
                service: "imap",
                implicit_tls,
                limits: limits.clone(),
                places: places.clone(),
                busy_line: b"* BYE Too many connections, try again later\r\n",
            };
            let own = Arc::new(context.clone());
            let started = listen(
                *address,
                options,
                context.tls.clone(),
                context.telemetry.clone(),
                context.stop.clone(),
                move |stream, peer, stop| {
                    // Boxed, so that the future of an idle connection is one small allocation.
                    let connection = Box::new(Connection::new(own.clone(), peer, stream));
                    async move { connection.run(stop).await }
                },
            );
            listening.push(started.map_err(|error| (*address, error))?);
        }
    }
    Ok(listening)
}

struct Connection {
    context: Arc<Context>,
    config: Arc<Config>,
    peer: Peer,
    stream: Option<Stream>,
    session: Session,
    exec: Option<Box<Exec>>,
    incoming: Option<Box<Incoming>>,
    login: Option<Login>,
    standing: ImapStanding,
}

/// What woke an idling connection.
enum Woken {
    Readable,
    Changed,
    Deadline,
    /// The account is gone, or its password is another.
    Revoked,
    Stop,
    Gone,
}

impl Connection {
    fn new(context: Arc<Context>, peer: Peer, stream: Stream) -> Self {
        let config = context.config.load_full();
        let loopback = peer.remote.ip().to_canonical().is_loopback();
        let settings = Settings {
            hostname: config.hostname.clone(),
            limits: config.imap.clone(),
            tls: stream.is_tls(),
            clear_login: loopback && config.auth.insecure_loopback_login,
            offered: context.auth.offered(),
        };
        let session = Session::new(settings, Instant::now());
        Self {
            standing: context.telemetry.connections.imap(session.state()),
            session,
            context,
            config,
            peer,
            stream: Some(stream),
            exec: None,
            incoming: None,
            login: None,
        }
    }

    async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let why = loop {
            if let Some(why) = Box::pin(self.drain()).await {
                break why;
            }
            self.standing.set(self.session.state());
            // A peer that always has more to say would else have many turns before others.
            tokio::task::yield_now().await;
            match self.wait(&stop).await {
                Woken::Readable => match self.read() {
                    Ok(true) => {}
                    Ok(false) => break ImapEnd::Gone,
                    Err(_) => break ImapEnd::Gone,
                },
                Woken::Changed => {
                    if let Err(gone) = Box::pin(self.announce()).await {
                        break end_of(&gone);
                    }
                }
                Woken::Deadline => {
                    if let Some(stream) = &mut self.stream {
                        stream.rest();
                    }
                    self.session.tick(Instant::now());
                }
                Woken::Revoked => self.session.revoked(),
                Woken::Stop => {
                    self.session.shutdown();
                    Box::pin(self.drain()).await;
                    break ImapEnd::Shutdown;
                }
                Woken::Gone => break ImapEnd::Gone,
            }
        };
        if let Some(stream) = &mut self.stream {
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.shutdown()).await;
        }
        self.context.telemetry.imap.ended(why);
    }

    async fn wait(&mut self, stop: &CancellationToken) -> Woken {
        let mut deadline = self.session.deadline();
        let idling = self.session.is_idling();
        let listening = self.session.is_listening();
        let Some(stream) = &mut self.stream else {
            return Woken::Gone;
        };
        if stream.is_warm() {
            deadline = deadline.min(Instant::now() + REST);
        }
        let exec = self.exec.as_mut();
        let exec = exec.filter(|exec| idling || listening && exec.listens());
        let changed = async {
            match exec {
                Some(exec) => exec.changed().await,
                None => std::future::pending().await,
            }
        };
        let login = self.login.as_mut();
        let revoked = async {
            match login {
                Some(login) => login.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = stream.readable() => match readable {
                Ok(()) => Woken::Readable,
                Err(_) => Woken::Gone,
            },
            () = changed => Woken::Changed,
            () = revoked => Woken::Revoked,
            () = tokio::time::sleep_until(deadline.into()) => Woken::Deadline,
            () = stop.cancelled() => Woken::Stop,
        }
    }

    /// Reads what is there; false at the end of the stream.
    fn read(&mut self) -> std::io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let mut buffer = [0; READ];
        match stream.try_read(&mut buffer)? {
            None => Ok(true),
            Some(0) => Ok(false),
            Some(n) => {
                self.session.input(Instant::now(), &buffer[..n]);
                Ok(true)
            }
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.config.imap.write_timeout_secs)
    }

    /// Tells a client what is new that idles, or asked for it by NOTIFY.
    async fn announce(&mut self) -> Result<(), Gone> {
        let patience = self.patience();
        let (Some(stream), Some(exec)) = (&mut self.stream, &mut self.exec) else {
            return Ok(());
        };
        if exec.lost() {
            self.session.mailbox_deleted();
            return Ok(());
        }
        // ENABLE may have been answered without it.
        exec.enabled = self.session.enabled();
        let mut out = Out::new(stream, patience);
        let newest = exec.announce(self.session.is_idling(), &mut out).await?;
        out.flush().await?;
        self.session.set_notifying(exec.listens());
        if let (Some(uid), Some(selected)) = (newest, &exec.selected) {
            note_delay(exec, selected.key, uid);
        }
        Ok(())
    }

    /// Does what the machine wants until it waits for input; Some: it is over.
    async fn drain(&mut self) -> Option<ImapEnd> {
        let mut end = None;
        let mut silent = true;
        let mut executed = false;
        while end.is_none()
            && let Some(output) = self.session.poll()
        {
            for (name, result) in self.session.take_answered() {
                self.context.telemetry.imap.command(name, result);
            }
            silent &= matches!(output, Output::AppendData(_));
            // Nor are all commands of a pipeline carried out in one turn.
            if matches!(output, Output::Execute(_)) && std::mem::replace(&mut executed, true) {
                tokio::task::yield_now().await;
            }
            end = match self.act(output).await {
                Ok(end) => end,
                Err(gone) => Some(end_of(&gone)),
            };
        }
        if silent && let Some(stream) = &self.stream {
            stream.acknowledge();
        }
        end
    }

    async fn act(&mut self, output: Output) -> Result<Option<ImapEnd>, Gone> {
        let patience = self.patience();
        // What was pipelined before the end is not carried out after it.
        let reads = matches!(
            output,
            Output::Execute(_) | Output::Append(_) | Output::AppendEnd { .. }
        );
        if let (true, Some(login)) = (reads, &self.login)
            && !login.holds()
        {
            self.session.revoked();
            return Ok(None);
        }
        let Some(stream) = &mut self.stream else {
            return Ok(Some(ImapEnd::Gone));
        };
        let mut out = Out::new(stream, patience);
        match (output, &mut self.exec) {
            (Output::Write(bytes), _) => {
                out.buf = bytes;
                out.flush().await?;
            }
            (Output::Close(why), _) => return Ok(Some(why)),
            (Output::Login(claim), _) => {
                let checked = Box::pin(self.login(&claim)).await;
                self.session.done_login(Instant::now(), checked);
            }
            (Output::Lookup(lookup), _) => {
                let bound = lookup.binding.and_then(|b| self.context.bound(stream, b));
                let found = self.context.auth.look_up(&lookup, self.ip());
                let found = found.map(|found| Found {
                    binding: bound,
                    ..found
                });
                self.session.done_lookup(Instant::now(), found);
            }
            (Output::Compress, _) => {
                let level = self.config.imap.compress_level;
                self.stream = self.stream.take().map(|stream| stream.compress(level));
            }
            (Output::EndCompression, _) => stream.end_compression(),
            (Output::Forget, _) => (self.login, self.exec) = (None, None),
            (Output::StartTls, _) => return self.start_tls().await,
            (Output::Execute(tagged), Some(exec)) => {
                exec.enabled = self.session.enabled();
                exec.run(tagged, &mut out).await?;
                self.done();
            }
            (Output::Append(piece), Some(exec)) => {
                let incoming = &mut self.incoming;
                let config = &self.config.imap;
                exec.enabled = self.session.enabled();
                match exec.append_piece(incoming, *piece, config).await {
                    Ok(()) => self.session.append_accepted(Instant::now()),
                    Err(answer) => {
                        *incoming = None;
                        self.session.append_refused(Instant::now(), &answer);
                    }
                }
            }
            (Output::AppendData(bytes), _) => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.push(&bytes);
                }
            }
            (Output::AppendAbort, _) => self.incoming = None,
            (Output::AppendEnd { tag }, Some(exec)) => {
                // The machine ends only what it began.
                let Some(messages) = self.incoming.take() else {
                    return Ok(Some(ImapEnd::Gone));
                };
                exec.append(&tag, *messages, &mut out).await?;
                self.done();
            }
            (Output::IdleBegin, Some(_)) => self.announce().await?,
            (Output::IdleEnd { tag }, Some(exec)) => {
                exec.enabled = self.session.enabled();
                exec.announce(true, &mut out).await?;
                out.buf.extend_from_slice(tag.as_bytes());
                out.buf.extend_from_slice(b" OK IDLE terminated\r\n");
                exec.telemetry.imap.command("idle", ImapResult::Ok);
                out.flush().await?;
                self.done();
            }
            // The machine asks for these only after a login.
            (_, None) => return Ok(Some(ImapEnd::Gone)),
        }
        Ok(None)
    }

    /// A command was carried out and answered.
    fn done(&mut self) {
        let exec = self.exec.as_ref();
        if exec.is_some_and(|exec| exec.lost()) {
            return self.session.mailbox_deleted();
        }
        if let Some(exec) = exec {
            self.session.enabled_by_command(exec.enabled);
            self.session.set_notifying(exec.listens());
        }
        let selected = exec.is_some_and(|exec| exec.selected.is_some());
        self.session.done_executing(Instant::now(), selected);
    }

    fn ip(&self) -> IpAddr {
        self.peer.remote.ip().to_canonical()
    }

    async fn login(&mut self, claim: &Claim) -> Result<(), AuthError> {
        let account = self.context.auth.check(claim, self.ip(), "imap").await?;
        self.login = Some(Login::new(self.context.store.clone(), account.clone()));
        self.exec = Some(Box::new(Exec {
            store: self.context.store.clone(),
            telemetry: self.context.telemetry.clone(),
            account,
            selected: None,
            enabled: self.session.enabled(),
            append_limit: self.config.imap.max_append_bytes,
            message_limit: self.config.imap.message_limit,
            limit_reached: None,
            config: self.config.clone(),
            tag: String::new(),
            interrupted: false,
            keys: self.context.keys.clone(),
            key_cache_bytes: self.config.imap.key_cache_bytes,
            watch: None,
            notify_limits: NotifyLimits {
                mailboxes: self.config.imap.notify_mailboxes,
                events: self.config.imap.notify_events,
            },
            arrived: Vec::new(),
            told_new: Vec::new(),
            max_contexts: self.config.imap.max_contexts,
            max_searched_mailboxes: self.config.imap.max_searched_mailboxes,
        }));
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<Option<ImapEnd>, Gone> {
        let Some(stream) = self.stream.take() else {
            return Ok(Some(ImapEnd::Gone));
        };
        let limit = Duration::from_secs(self.config.limits.tls_handshake_timeout_secs);
        let started = stream.start_tls((self.context.tls)(), limit).await;
        let net = &self.context.telemetry.net;
        net.handshake("imap", Handshake::of(&started));
        match started {
            Ok(stream) => {
                self.stream = Some(stream);
                self.session.tls_started(Instant::now());
                Ok(None)
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer.remote, %error, "TLS handshake failed");
                Ok(Some(ImapEnd::Tls))
            }
        }
    }
}

fn end_of(gone: &Gone) -> ImapEnd {
    if gone.stalled {
        ImapEnd::Stalled
    } else {
        ImapEnd::Gone
    }
}

fn note_delay(exec: &Exec, mailbox: crate::types::MailboxKey, uid: Uid) {
    if let Ok(Some(record)) = exec.store.message(mailbox, uid) {
        exec.telemetry
            .imap
            .announced(exec.store.since_commit(record.saved));
    }
}
