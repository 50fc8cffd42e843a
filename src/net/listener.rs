//! One accept loop for every service: connection limits, keepalive, the TLS handshake, orderly
//! stop, and a wall around each connection's panics.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stream::Stream;
use crate::telemetry::{Handshake, Refused, Telemetry};

/// Connections that the kernel may complete before we accept them.
const BACKLOG: i32 = 4096;
/// Pause after an accept that failed for want of a resource; doubles up to a second.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub remote: SocketAddr,
    pub local: SocketAddr,
}

/// How a listener behaves.
#[derive(Clone)]
pub struct ListenOptions {
    /// Metric label: `smtp`, `submission`, `imap`, `http`.
    pub service: &'static str,
    /// TLS from the first byte.
    pub implicit_tls: bool,
    /// Asked for each connection: limits may change while the server runs.
    pub limits: LimitSource,
    /// Listeners that share them share the limits.
    pub places: Places,
    /// Written to a plain-text connection that is over a limit, before it is closed.
    pub busy_line: &'static [u8],
}

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub connections: usize,
    /// Of one IPv4 address or one IPv6 /64.
    pub per_ip: usize,
    /// Zero: none.
    pub keepalive: Duration,
    /// Bytes that may wait in the system for a peer that does not read, besides what is under
    /// way to it; zero: as many as the system likes.
    pub unsent_bytes: u32,
    pub handshake_timeout: Duration,
}

/// Gives the limits of the moment.
pub type LimitSource = Arc<dyn Fn() -> ConnectionLimits + Send + Sync>;

/// Who holds a place; shared by listeners whose connections count together.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Open>>);

/// Gives the TLS settings of the moment: they may be exchanged while the server runs.
pub type TlsSource = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A bound listener that accepts until `stop`.
pub struct Listening {
    pub local: SocketAddr,
    /// Ends when the accept loop and all its connections have ended.
    pub done: tokio::task::JoinHandle<()>,
}

/// Binds and starts accepting; must be called inside a runtime. `handle` runs once per
/// connection, after the handshake where `implicit_tls`, with a token that says stop: it must
/// then end by itself. An IPv6 wildcard takes IPv6 only.
pub fn listen<H, F>(
    addr: SocketAddr,
    options: ListenOptions,
    tls: TlsSource,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    handle: H,
) -> io::Result<Listening>
where
    H: Fn(Stream, Peer, CancellationToken) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = bind(addr)?;
    let local = listener.local_addr()?;
    let shared = Arc::new(Shared {
        options,
        tls,
        telemetry,
    });
    let done = tokio::spawn(accept_until(listener, local, shared, stop, handle));
    Ok(Listening { local, done })
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        // So that 0.0.0.0 and [::] can be listed together on every system.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What all connections of a listener share.
struct Shared {
    options: ListenOptions,
    tls: TlsSource,
    telemetry: Arc<Telemetry>,
}

/// Places taken. The map has an entry only for who holds a place, so it is bounded by them.
#[derive(Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A connection's place; given back when dropped, also by a panic.
struct Place {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, remote: IpAddr) -> Result<Self, Refused> {
        let ip = limited_as(remote);
        let options = &shared.options;
        let limits = (options.limits)();
        let mut open = options.places.0.lock();
        if open.total >= limits.connections {
            return Err(Refused::Limit);
        }
        let of_ip = open.by_ip.entry(ip).or_default();
        if *of_ip >= limits.per_ip {
            if *of_ip == 0 {
                open.by_ip.remove(&ip);
            }
            return Err(Refused::PerAddress);
        }
        *of_ip += 1;
        open.total += 1;
        drop(open);
        shared.telemetry.net.opened(options.service);
        Ok(Self {
            shared: Arc::clone(shared),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.options.places.0.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
        drop(open);
        let net = &self.shared.telemetry.net;
        // The runtime catches the panic at the task's edge; here it gets counted.
        net.closed(self.shared.options.service, std::thread::panicking());
    }
}

/// The unit of the limit per address: a household or host has a whole IPv6 /64.
fn limited_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let prefix = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        v4 => v4,
    }
}

async fn accept_until<H, F>(
    listener: TcpListener,
    local: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    handle: H,
) where
    H: Fn(Stream, Peer, CancellationToken) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    let mut back_off = BACK_OFF;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, remote)) => {
                back_off = BACK_OFF;
                let peer = Peer { remote, local };
                match Place::take(&shared, remote.ip()) {
                    Ok(place) => {
                        let handle = handle.clone();
                        connections.spawn(serve(tcp, peer, place, stop.clone(), handle));
                    }
                    Err(reason) => refuse(&tcp, &shared, reason),
                }
            }
            // These are the peer's, and already over.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                shared
                    .telemetry
                    .net
                    .accept_failed(shared.options.service, &error);
                // Out of descriptors or memory: trying at once would only burn the processor.
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(Duration::from_secs(1));
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn refuse(tcp: &TcpStream, shared: &Shared, reason: Refused) {
    shared.telemetry.net.refused(shared.options.service, reason);
    if !shared.options.implicit_tls {
        // A new socket has room for a line; if not, the peer hears nothing.
        let _ = tcp.try_write(shared.options.busy_line);
    }
}

async fn serve<H, F>(tcp: TcpStream, peer: Peer, place: Place, stop: CancellationToken, handle: H)
where
    H: Fn(Stream, Peer, CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let shared = &place.shared;
    // The peer may be gone already; then the first read says so.
    let _ = tcp.set_nodelay(true);
    let limits = (shared.options.limits)();
    if !limits.keepalive.is_zero() {
        let keepalive = TcpKeepalive::new()
            .with_time(limits.keepalive)
            .with_interval(Duration::from_secs(20))
            .with_retries(4);
        let _ = SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
    }
    #[cfg(target_os = "linux")]
    if limits.unsent_bytes > 0 {
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(limits.unsent_bytes);
    }
    let mut stream = Stream::Plain(tcp);
    if shared.options.implicit_tls {
        let handshake = stream.start_tls((shared.tls)(), limits.handshake_timeout);
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = Box::pin(handshake) => result,
        };
        let net = &shared.telemetry.net;
        net.handshake(shared.options.service, Handshake::of(&result));
        match result {
            Ok(tls) => stream = tls,
            Err(_) => return,
        }
    }
    handle(stream, peer, stop).await;
}
