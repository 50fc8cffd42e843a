//! What travels between the command, which reads and writes files with its user's rights, and
//! whoever has the store open: frames of a length, a kind and a value.
//!
//! May import: store, types. Bounded: the length of a frame.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use crate::store::{Identity, SpecialUse};
use crate::types::Flag;

/// What the store's side says first. An older server answers with JSON instead.
pub const MAGIC: [u8; 4] = *b"PHT1";

/// Longest frame.
const MAX_FRAME: u32 = 512 * 1024;
/// Bytes of a message in one frame.
pub const PIECE: usize = 256 * 1024;
/// Identities in one frame.
pub const IDENTITIES: usize = 16 * 1024;

/// A mailbox, in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxHead {
    pub name: String,
    /// 0: the source has no UIDs.
    pub uid_validity: u32,
    pub uid_next: u32,
    pub special_use: Option<SpecialUse>,
    pub subscribed: bool,
    /// Names the mailbox of the source; not used in an export.
    pub source: [u8; 8],
    /// Messages in it, as far as that is known.
    pub messages: u64,
}

/// A message; its bytes follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageHead {
    pub size: u64,
    pub uid: Option<u32>,
    pub flags: Vec<Flag>,
    /// INTERNALDATE, milliseconds since 1970, and its zone, minutes east.
    pub date: i64,
    pub zone: i16,
    /// Not used in an export.
    pub identity: Identity,
    /// See [`super::lines::Scan::ends`].
    pub line_ends: Vec<u8>,
}

/// What became of one mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub messages: u64,
    /// Messages whose UID could not be kept though the mailbox keeps UIDs.
    pub renumbered: u64,
    /// Keywords that found no room in the mailbox.
    pub keywords_lost: u64,
}

/// Everything that is not a message's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// An import may begin.
    Ready {
        max_message_bytes: u64,
    },
    /// Import: what follows goes there. Export: what follows is of it.
    Mailbox(MailboxHead),
    /// The answer: and then `Known` until `KnownEnd`.
    Opened {
        keeps_uids: bool,
    },
    /// The answer where the mailbox can't be there.
    Refused(String),
    Known(Vec<Identity>),
    KnownEnd,
    Message(MessageHead),
    /// So much is durable, of all mailboxes together.
    Stored {
        messages: u64,
        bytes: u64,
    },
    MailboxEnd,
    /// The answer.
    Closed(Closed),
    /// A name that is subscribed to and is no mailbox.
    Subscribed(String),
    /// An export of several accounts: what follows is of this one.
    Account(String),
    /// A message that can't be read: what and why.
    Damaged {
        uid: u32,
        reason: String,
    },
    /// All is done.
    End,
    /// It can't go on.
    Failed(String),
}

/// What a frame holds.
#[derive(Debug)]
pub enum Frame {
    Control(Control),
    Bytes(Vec<u8>),
}

const CONTROL: u8 = 0;
const BYTES: u8 = 1;

/// The reading side.
pub struct Frames<R>(BufReader<R>);

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(stream: R) -> Self {
        Self(BufReader::with_capacity(64 * 1024, stream))
    }

    /// Waits for [`MAGIC`]; else gives all that came instead of it, as far as that is text.
    pub async fn begin(&mut self) -> io::Result<Result<(), String>> {
        let mut first = [0; 4];
        self.0.read_exact(&mut first).await?;
        if first == MAGIC {
            return Ok(Ok(()));
        }
        let mut text = first.to_vec();
        (&mut self.0).take(64 * 1024).read_to_end(&mut text).await?;
        Ok(Err(String::from_utf8_lossy(&text).into_owned()))
    }

    pub async fn next(&mut self) -> io::Result<Frame> {
        let len = self.0.read_u32().await?;
        if len == 0 || len > MAX_FRAME {
            return Err(malformed("a frame of a length that can't be"));
        }
        let kind = self.0.read_u8().await?;
        let mut bytes = vec![0; len as usize - 1];
        self.0.read_exact(&mut bytes).await?;
        match kind {
            CONTROL => postcard::from_bytes(&bytes)
                .map(Frame::Control)
                .map_err(|_| malformed("a frame that makes no sense")),
            BYTES => Ok(Frame::Bytes(bytes)),
            _ => Err(malformed("a frame of an unknown kind")),
        }
    }

    pub async fn control(&mut self) -> io::Result<Control> {
        match self.next().await? {
            Frame::Control(control) => Ok(control),
            Frame::Bytes(_) => Err(malformed("bytes that belong to no message")),
        }
    }

    /// The bytes of a message of this size.
    pub async fn body(&mut self, size: u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let Frame::Bytes(bytes) = self.next().await? else {
                return Err(malformed("a message that ends too early"));
            };
            if bytes.is_empty() {
                return Err(malformed("a piece of a message that holds nothing"));
            }
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| malformed("a message that is longer than it says"))?;
            each(&bytes);
        }
        Ok(())
    }
}

/// The writing side.
pub struct Sink<W>(BufWriter<W>);

impl<W: AsyncWrite + Unpin> Sink<W> {
    pub fn new(stream: W) -> Self {
        Self(BufWriter::with_capacity(64 * 1024, stream))
    }

    pub async fn begin(&mut self) -> io::Result<()> {
        self.0.write_all(&MAGIC).await
    }

    async fn frame(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len() + 1).ok();
        let len = len.filter(|len| *len <= MAX_FRAME);
        let len = len.ok_or_else(|| malformed("a frame that is too long"))?;
        self.0.write_u32(len).await?;
        self.0.write_u8(kind).await?;
        self.0.write_all(bytes).await
    }

    /// Waits in the buffer until there is more, or [`Sink::flush`].
    pub async fn control(&mut self, control: &Control) -> io::Result<()> {
        let bytes = postcard::to_stdvec(control).map_err(io::Error::other)?;
        self.frame(CONTROL, &bytes).await
    }

    pub async fn body(&mut self, body: &[u8]) -> io::Result<()> {
        for piece in body.chunks(PIECE) {
            self.frame(BYTES, piece).await?;
        }
        Ok(())
    }

    /// At once.
    pub async fn say(&mut self, control: &Control) -> io::Result<()> {
        self.control(control).await?;
        self.flush().await
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_and_rubbish_is_an_error() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut sink, mut frames) = (Sink::new(near), Frames::new(far));
        let head = MessageHead {
            size: 600_000,
            flags: vec![Flag::Keyword("x".into())],
            date: -5,
            ..MessageHead::default()
        };
        sink.begin().await.unwrap();
        sink.control(&Control::Message(head.clone())).await.unwrap();
        sink.body(&vec![7; 600_000]).await.unwrap();
        sink.say(&Control::End).await.unwrap();
        assert_eq!(frames.begin().await.unwrap(), Ok(()));
        assert_eq!(frames.control().await.unwrap(), Control::Message(head));
        let mut got = 0;
        frames.body(600_000, |b| got += b.len()).await.unwrap();
        assert_eq!(got, 600_000);
        assert_eq!(frames.control().await.unwrap(), Control::End);
        for bad in [
            &[0, 0, 0, 0, 0][..],
            &[255; 9],
            &[0, 0, 0, 2, 7, 1],
            &[0, 0, 0, 2, 0, 255],
        ] {
            assert!(Frames::new(bad).next().await.is_err(), "{bad:?}");
        }
        // More than was said, or something else in between.
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut sink, mut frames) = (Sink::new(near), Frames::new(far));
        sink.body(b"abc").await.unwrap();
        sink.say(&Control::End).await.unwrap();
        assert!(frames.body(2, |_| ()).await.is_err());
        assert!(frames.body(2, |_| ()).await.is_err());
    }
}
