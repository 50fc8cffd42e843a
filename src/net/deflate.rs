//! A stream that is compressed both ways (RFC 4978), and again holds little while nobody speaks.
//!
//! The compressor is 260 KiB. What it wrote ends, whenever it was flushed, between two blocks; a
//! new compressor, which refers back to nothing, may go on there. So it can be let go at any
//! time, and a word to an idling peer needs none at all: it is a stored block (RFC 1951, 3.2.4).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inflate::Inflater;
use super::stream::Stream;

/// How much is read of the peer at a time.
const READ: usize = 8 * 1024;
/// Compressed bytes that may wait before nothing more is taken.
const WAITING: usize = 16 * 1024;
/// How much is compressed at a time.
const PIECE: usize = 16 * 1024;
/// Up to so much is not worth a compressor.
const STORED: usize = 256;

pub struct Deflated {
    pub(super) stream: Stream,
    reading: Reading,
    /// None: not compressed any more.
    writing: Option<Writing>,
    /// Compressed, and not written yet.
    waiting: Vec<u8>,
    written: usize,
}

enum Reading {
    Compressed(Inflater),
    /// The peer has said its last compressed word; its flush may still be under way.
    Ending(Inflater),
    /// What came behind that, then the stream itself.
    Plain(Vec<u8>),
}

struct Writing {
    level: u32,
    compressor: Option<Box<Compress>>,
    /// The compressor has taken something that was not flushed.
    dirty: bool,
    /// Waits to become a stored block.
    small: Vec<u8>,
}

impl Deflated {
    pub(super) fn new(stream: Stream, level: u32) -> Self {
        let mut deflated = Self {
            stream,
            reading: Reading::Plain(Vec::new()),
            writing: None,
            waiting: Vec::new(),
            written: 0,
        };
        deflated.begin(level);
        deflated
    }

    /// All that follows is compressed, both ways.
    pub(super) fn begin(&mut self, level: u32) {
        let mut inflater = Inflater::new();
        if let Reading::Plain(rest) = &self.reading {
            inflater.feed(rest);
        }
        self.reading = Reading::Compressed(inflater);
        self.writing = Some(Writing {
            level,
            compressor: None,
            dirty: false,
            small: Vec::new(),
        });
    }

    /// Nothing that follows is compressed (RFC 8437, 4.1). Only when all was flushed.
    pub(super) fn end(&mut self) {
        let reading = std::mem::replace(&mut self.reading, Reading::Plain(Vec::new()));
        self.reading = match reading {
            Reading::Compressed(inflater) => Reading::Ending(inflater),
            other => other,
        };
        self.writing = None;
    }

    /// Whether a read may give something that is here already.
    pub(super) fn has_more(&self) -> bool {
        match &self.reading {
            Reading::Compressed(inflater) | Reading::Ending(inflater) => {
                inflater.has_more() || inflater.is_done()
            }
            Reading::Plain(rest) => !rest.is_empty(),
        }
    }

    /// Whether [`Deflated::rest`] has anything to do.
    pub(super) fn is_warm(&self) -> bool {
        let reading = match &self.reading {
            Reading::Compressed(inflater) => inflater.is_warm(),
            Reading::Ending(_) | Reading::Plain(_) => false,
        };
        reading || self.writing.as_ref().is_some_and(Writing::is_warm)
    }

    /// The peer is silent for now: lets go what is not needed to go on later.
    pub(super) fn rest(&mut self) {
        if let Reading::Compressed(inflater) = &mut self.reading {
            inflater.rest();
        }
        if let Some(writing) = &mut self.writing
            && writing.is_warm()
        {
            writing.compressor = None;
        }
    }

    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..)
            && !rest.is_empty()
        {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.waiting = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl Writing {
    fn is_warm(&self) -> bool {
        self.compressor.is_some() && !self.dirty
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if self.compressor.is_none() {
            if self.small.len() + bytes.len() <= STORED {
                self.small.extend_from_slice(bytes);
                return Ok(());
            }
            let compressor = Compress::new(Compression::new(self.level), false);
            self.compressor = Some(Box::new(compressor));
        }
        let small = std::mem::take(&mut self.small);
        for piece in [&small[..], bytes] {
            self.compress(piece, FlushCompress::None, out)?;
        }
        self.dirty = true;
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.dirty {
            self.compress(&[], FlushCompress::Sync, out)?;
            self.dirty = false;
        }
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small);
            // At most STORED bytes.
            let length = small.len() as u16;
            out.push(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(&small);
        }
        Ok(())
    }

    fn compress(
        &mut self,
        mut bytes: &[u8],
        flush: FlushCompress,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some(compressor) = &mut self.compressor else {
            return Ok(());
        };
        loop {
            out.reserve(bytes.len() / 2 + 64);
            let before = compressor.total_in();
            compressor
                .compress_vec(bytes, out, flush)
                .map_err(io::Error::other)?;
            let taken = compressor.total_in() - before;
            bytes = bytes
                .get(usize::try_from(taken).unwrap_or(usize::MAX)..)
                .unwrap_or_default();
            // Room is left only where there was nothing more to say.
            if bytes.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a deflate stream")
}

impl AsyncRead for Deflated {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                Reading::Compressed(inflater) => {
                    let n = inflater
                        .read(buf.initialize_unfilled())
                        .map_err(|_| broken())?;
                    buf.advance(n);
                    if n > 0 || inflater.is_done() || buf.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Reading::Ending(inflater) => {
                    if let Some(rest) = inflater.end().map_err(|_| broken())? {
                        this.reading = Reading::Plain(rest);
                        continue;
                    }
                }
                Reading::Plain(rest) if rest.is_empty() => {
                    return Pin::new(&mut this.stream).poll_read(cx, buf);
                }
                Reading::Plain(rest) => {
                    let n = rest.len().min(buf.remaining());
                    buf.put_slice(rest.get(..n).unwrap_or_default());
                    *rest = rest.split_off(n);
                    return Poll::Ready(Ok(()));
                }
            }
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Reading::Compressed(inflater) | Reading::Ending(inflater) = &mut this.reading {
                inflater.feed(read.filled());
            }
        }
    }
}

impl AsyncWrite for Deflated {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.writing.is_none() || this.waiting.len() - this.written >= WAITING {
            ready!(this.poll_drain(cx))?;
        }
        let Some(writing) = &mut this.writing else {
            return Pin::new(&mut this.stream).poll_write(cx, buf);
        };
        let piece = buf.get(..PIECE).unwrap_or(buf);
        writing.push(piece, &mut this.waiting)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(writing) = &mut this.writing {
            writing.flush(&mut this.waiting)?;
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
