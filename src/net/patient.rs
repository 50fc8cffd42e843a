//! Writing to a peer that may be slow, but not to one that does not read.
//!
//! Progress is what the peer acknowledges: that the system takes more says only that its own
//! buffers, which may be of megabytes, have become empty to a third.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::stream::Stream;

/// How often within its time a peer is looked at that takes nothing.
const LOOKS: u32 = 4;

impl Stream {
    /// Writes and flushes. `TimedOut`: the peer took nothing for as long as `patience`, give or
    /// take a quarter of it.
    pub async fn write_patiently(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut rest = bytes;
        let mut watch = Watch::new(patience);
        let mut timer = pin!(sleep(watch.interval));
        std::future::poll_fn(|cx| {
            loop {
                watch.look(self);
                let written = match rest.is_empty() {
                    false => Pin::new(&mut *self).poll_write(cx, rest).map_ok(Some),
                    true => Pin::new(&mut *self).poll_flush(cx).map_ok(|()| None),
                };
                match written {
                    Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(Some(0))) => {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(Some(n))) => {
                        rest = rest.get(n..).unwrap_or_default();
                        watch.taken();
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(watch.poll(timer.as_mut(), cx));
                        if watch.is_over(self) {
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                    }
                }
            }
        })
        .await
    }
}

/// Whether a peer takes anything.
struct Watch {
    patience: Duration,
    interval: Duration,
    since: Instant,
    /// What it has not acknowledged, when that was least since something was written.
    least: Option<u64>,
}

impl Watch {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            interval: patience / LOOKS,
            since: Instant::now(),
            least: None,
        }
    }

    /// More was taken, at least by the system.
    fn taken(&mut self) {
        self.since = Instant::now();
        self.least = None;
    }

    fn look(&mut self, stream: &Stream) {
        let waiting = unacknowledged(stream.tcp());
        if let (Some(before), Some(now)) = (self.least, waiting)
            && now < before
        {
            self.since = Instant::now();
        }
        self.least = waiting;
    }

    /// Ready: it is time to look.
    fn poll(&self, mut timer: Pin<&mut Sleep>, cx: &mut std::task::Context<'_>) -> Poll<()> {
        ready!(timer.as_mut().poll(cx));
        timer.reset(Instant::now() + self.interval);
        Poll::Ready(())
    }

    fn is_over(&mut self, stream: &Stream) -> bool {
        self.look(stream);
        self.since.elapsed() >= self.patience
    }
}

/// Bytes of a connection that the peer has not acknowledged. None: the system does not say.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn unacknowledged(tcp: &TcpStream) -> Option<u64> {
    use std::os::fd::AsRawFd;

    let mut bytes: libc::c_int = 0;
    // SAFETY: the socket is open while it is borrowed, and what is written is one int that lives
    // here. The number is that of SIOCOUTQ.
    let result = unsafe { libc::ioctl(tcp.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    u64::try_from(bytes).ok().filter(|_| result == 0)
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &TcpStream) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use socket2::{Domain, Socket, Type};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(800);

    /// Ours has as much room as the system likes, the peer's that of few kilobytes.
    async fn ends() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        peer.set_recv_buffer_size(32 * 1024).unwrap();
        peer.connect(&listener.local_addr().unwrap().into())
            .unwrap();
        peer.set_nonblocking(true).unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        (
            Stream::Plain(tcp),
            TcpStream::from_std(peer.into()).unwrap(),
        )
    }

    #[tokio::test]
    async fn who_reads_slowly_is_waited_for() {
        let (mut stream, mut peer) = ends().await;
        let text: Vec<u8> = (0..12 << 20).map(|n: u32| (n / 1000) as u8).collect();
        let expected = text.clone();
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut piece = [0; 8 * 1024];
            // Longer than the patience, and nothing that the system's buffers would notice.
            for _ in 0..60 {
                sleep(PATIENCE / 20).await;
                let n = peer.read(&mut piece).await.unwrap();
                got.extend_from_slice(&piece[..n]);
            }
            peer.read_to_end(&mut got).await.unwrap();
            got
        });
        stream.write_patiently(&text, PATIENCE).await.unwrap();
        drop(stream);
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut stream, mut peer) = ends().await;
        let text = vec![7; 32 << 20];
        // Also not who has read some of it.
        let mut some = vec![0; 2 << 20];
        let (written, read) = tokio::join!(
            stream.write_patiently(&text, PATIENCE),
            peer.read_exact(&mut some)
        );
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(read.unwrap(), some.len());
    }
}
