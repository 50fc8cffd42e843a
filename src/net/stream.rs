//! A TCP connection, plain or TLS, that costs nothing but its socket while nobody speaks.
//!
//! An idle connection waits in [`Stream::readable`], which holds no buffer; when it returns,
//! [`Stream::try_read`] takes what is there into memory that the caller owns for that moment.

use std::io::{self, BufRead};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::deflate::Deflated;

/// Ciphertext that may wait in a TLS session for a peer that does not read.
const TLS_BUFFER: usize = 32 * 1024;

/// A connection of any kind. Implements `AsyncRead` and `AsyncWrite`.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Compressed, over either of them.
    Deflated(Box<Deflated>),
}

/// What is known of the peer, without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    Open,
    /// It sends nothing more. It may still read: only writing to it finds out.
    Finished,
    Gone,
}

impl Stream {
    /// Makes a plain connection a TLS one. The caller must have thrown away whatever it had
    /// read beyond the line that asked for TLS.
    pub async fn start_tls(
        self,
        config: Arc<rustls::ServerConfig>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let Self::Plain(tcp) = self else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS already"));
        };
        let accept = TlsAcceptor::from(config).accept_with(tcp, |session| {
            session.set_buffer_limit(Some(TLS_BUFFER));
        });
        // Boxed: the handshake's state must not make every connection's task larger.
        match Box::pin(tokio::time::timeout(timeout, accept)).await {
            Ok(tls) => Ok(Self::Tls(Box::new(tls?))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Compresses all that follows, both ways (RFC 4978); `level` from 1 to 9. What is under way
    /// must have been flushed.
    pub fn compress(self, level: u32) -> Self {
        match self {
            Self::Deflated(mut deflated) => {
                deflated.begin(level);
                Self::Deflated(deflated)
            }
            stream => Self::Deflated(Box::new(Deflated::new(stream, level))),
        }
    }

    /// Nothing that follows is compressed. What is under way must have been flushed.
    pub fn end_compression(&mut self) {
        if let Self::Deflated(deflated) = self {
            deflated.end();
        }
    }

    /// Whether [`Stream::rest`] has anything to do.
    pub fn is_warm(&self) -> bool {
        matches!(self, Self::Deflated(deflated) if deflated.is_warm())
    }

    /// The peer is silent: lets go the memory that compression can do without. It comes back by
    /// itself.
    pub fn rest(&mut self) {
        if let Self::Deflated(deflated) = self {
            deflated.rest();
        }
    }

    pub fn is_tls(&self) -> bool {
        self.tls().is_some()
    }

    fn tls(&self) -> Option<&TlsStream<TcpStream>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
            Self::Deflated(deflated) => deflated.stream.tls(),
        }
    }

    /// `TLS1.3` or `TLS1.2`; None on a plain connection.
    pub fn protocol(&self) -> Option<&'static str> {
        match self.tls()?.get_ref().1.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => Some("TLS1.3"),
            rustls::ProtocolVersion::TLSv1_2 => Some("TLS1.2"),
            _ => None,
        }
    }

    /// The cipher suite under its registered name, such as `TLS_AES_128_GCM_SHA256`.
    pub fn cipher(&self) -> Option<String> {
        let suite = self.tls()?.get_ref().1.negotiated_cipher_suite()?.suite();
        // rustls writes TLS13_ where the registry has TLS_.
        suite
            .as_str()
            .map(|name| name.replacen("TLS13_", "TLS_", 1))
    }

    /// What both ends of this connection know and nobody between them does (RFC 9266, 2). None:
    /// not TLS 1.3.
    pub fn exporter(&self) -> Option<Vec<u8>> {
        let session = self.tls()?.get_ref().1;
        if session.protocol_version()? != rustls::ProtocolVersion::TLSv1_3 {
            return None;
        }
        let exported =
            session.export_keying_material([0u8; 32], b"EXPORTER-Channel-Binding", Some(&[]));
        exported.ok().map(|bytes| bytes.to_vec())
    }

    /// The protocol that ALPN chose.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls()?.get_ref().1.alpn_protocol()
    }

    /// Waits until a read has something to say: data, end of stream or an error. Holds no
    /// buffer. On a TLS connection there may turn out to be only part of a record:
    /// [`Stream::try_read`] then gives None, and the caller waits again.
    ///
    /// Safe to cancel.
    pub async fn readable(&mut self) -> io::Result<()> {
        if self.has_more() {
            return Ok(());
        }
        let tcp = self.tcp();
        // A peek, not `TcpStream::readable`: that one may be right about the past only, and the
        // caller would then hold a buffer while it waits.
        let mut byte = [0u8; 1];
        tcp.peek(&mut byte).await.map(|_| ())
    }

    /// Whether something came already that was not read.
    fn has_more(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => has_plaintext(tls),
            Self::Deflated(deflated) => deflated.has_more() || deflated.stream.has_more(),
        }
    }

    /// Acknowledges what was read now, where nothing is about to be answered. Without it the
    /// kernel waits for data to send it with (40 ms), and a peer that sends its message in small
    /// pieces (RFC 896) waits with the next one for the acknowledgement. Linux only.
    pub fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        {
            // Only speed is lost where it fails.
            let _ = socket2::SockRef::from(self.tcp()).set_tcp_quickack(true);
        }
    }

    /// Whether somebody is there, also behind what was not read yet; as of the runtime's last
    /// look at the sockets.
    pub fn peer_end(&self) -> PeerEnd {
        let ready = pin!(self.tcp().ready(Interest::READABLE | Interest::WRITABLE));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(ready)) if ready.is_write_closed() => PeerEnd::Gone,
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => PeerEnd::Finished,
            Poll::Ready(Ok(_)) | Poll::Pending => PeerEnd::Open,
            Poll::Ready(Err(_)) => PeerEnd::Gone,
        }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Deflated(deflated) => deflated.stream.tcp(),
        }
    }

    /// Reads what is there without waiting. None: nothing yet. `Some(0)`: end of stream.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        // The waker does nothing: whoever gets None goes back to `readable`, which has its own.
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = ReadBuf::new(buf);
        match Pin::new(self).poll_read(&mut cx, &mut read) {
            Poll::Ready(Ok(())) => Ok(Some(read.filled().len())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(None),
        }
    }
}

fn has_plaintext(tls: &mut TlsStream<TcpStream>) -> bool {
    match tls.get_mut().1.reader().fill_buf() {
        // Empty: the peer closed the TLS session, which a read will report.
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => match Pin::new(tls.as_mut()).poll_read(cx, buf) {
                // Closed without close_notify: common, and all our protocols frame themselves.
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                other => other,
            },
            Self::Deflated(deflated) => Pin::new(deflated.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
            Self::Deflated(deflated) => Pin::new(deflated.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
            Self::Deflated(deflated) => Pin::new(deflated.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Deflated(_) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            Self::Deflated(deflated) => Pin::new(deflated.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            Self::Deflated(deflated) => Pin::new(deflated.as_mut()).poll_shutdown(cx),
        }
    }
}
