//! The command's side of an import: hands mailboxes and messages over, and hears what is durable.
//!
//! May import: store, types. Bounded by the stream: whoever hands over waits until there is room.

use std::collections::HashSet;
use std::io;

use aws_lc_rs::digest;
use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frames::{Control, Frames, MailboxHead, MessageHead, Sink};
use super::report::{MailboxReport, Progress, Report};
use crate::store::Identity;

/// Why an import or export ended early.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("the connection to the store broke: {0}; start it again: it goes on where it was")]
    Link(io::Error),
    #[error("{0}")]
    Store(String),
    /// What the source or target says.
    #[error("{0}")]
    Other(String),
}

impl TransferError {
    pub fn at(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }
}

/// Names a message or mailbox of a source.
pub fn identity(parts: &[&[u8]]) -> Identity {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The same for a mailbox of a source.
pub fn source(parts: &[&[u8]]) -> [u8; 8] {
    let identity = identity(parts);
    identity.first_chunk().copied().unwrap_or_default()
}

/// An import that is under way.
pub struct Import<S> {
    sink: Sink<WriteHalf<S>>,
    answers: mpsc::Receiver<Control>,
    reading: JoinHandle<io::Error>,
    pub max_message_bytes: u64,
    pub progress: Progress,
    reports: Vec<MailboxReport>,
}

/// An opened mailbox: what of it is there already.
pub struct Open {
    pub known: HashSet<Identity>,
    report: MailboxReport,
}

impl Open {
    /// True where the message was brought before; it is counted.
    pub fn has(&mut self, identity: &Identity) -> bool {
        let known = self.known.contains(identity);
        self.report.known += u64::from(known);
        known
    }

    /// So many were brought before.
    pub fn skip(&mut self, known: u64) {
        self.report.known += known;
    }
}

/// What an older server says.
#[derive(serde::Deserialize)]
struct Refusal {
    error: RefusalText,
}

#[derive(serde::Deserialize)]
struct RefusalText {
    message: String,
}

/// The store's side has begun, or says why it does not.
pub(super) async fn begin<R: AsyncRead + Unpin>(
    frames: &mut Frames<R>,
) -> Result<(), TransferError> {
    match frames.begin().await.map_err(TransferError::Link)? {
        Ok(()) => Ok(()),
        Err(text) => Err(TransferError::Store(
            serde_json::from_str::<Refusal>(&text).map_or(text, |refusal| refusal.error.message),
        )),
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Import<S> {
    /// Over a stream on which the other side was asked for an import.
    pub async fn begin(stream: S, progress: Progress) -> Result<Self, TransferError> {
        let (reader, writer) = tokio::io::split(stream);
        let mut frames = Frames::new(reader);
        begin(&mut frames).await?;
        let (answer, answers) = mpsc::channel(4);
        let shown = progress.clone();
        let reading = tokio::spawn(async move {
            loop {
                match frames.control().await {
                    Ok(Control::Stored { messages, bytes }) => shown.set(messages, bytes),
                    Ok(control) => {
                        if answer.send(control).await.is_err() {
                            return io::ErrorKind::UnexpectedEof.into();
                        }
                    }
                    Err(error) => return error,
                }
            }
        });
        let mut import = Self {
            sink: Sink::new(writer),
            answers,
            reading,
            max_message_bytes: 0,
            progress,
            reports: Vec::new(),
        };
        match import.answer().await? {
            Control::Ready { max_message_bytes } => import.max_message_bytes = max_message_bytes,
            _ => return Err(odd()),
        }
        Ok(import)
    }

    async fn answer(&mut self) -> Result<Control, TransferError> {
        match self.answers.recv().await {
            Some(Control::Failed(reason)) => Err(TransferError::Store(reason)),
            Some(control) => Ok(control),
            None => Err(TransferError::Link(match (&mut self.reading).await {
                Ok(error) => error,
                Err(error) => io::Error::other(error),
            })),
        }
    }

    /// A write that failed: the other side may have said why before it went.
    async fn wrote(&mut self, written: io::Result<()>) -> Result<(), TransferError> {
        let Err(error) = written else {
            return Ok(());
        };
        while let Some(control) = self.answers.recv().await {
            if let Control::Failed(reason) = control {
                return Err(TransferError::Store(reason));
            }
        }
        Err(TransferError::Link(error))
    }

    /// What follows goes into this mailbox. None: it can't, which is told.
    pub async fn open(&mut self, head: MailboxHead) -> Result<Option<Open>, TransferError> {
        let (name, has_uids) = (head.name.clone(), head.uid_validity != 0);
        self.progress.begin(&name, head.messages);
        let sent = self.sink.say(&Control::Mailbox(head)).await;
        self.wrote(sent).await?;
        let mut open = Open {
            known: HashSet::new(),
            report: MailboxReport {
                name: name.clone(),
                ..MailboxReport::default()
            },
        };
        match self.answer().await? {
            Control::Opened { keeps_uids } => {
                open.report.uids_kept = has_uids.then_some(keeps_uids);
            }
            Control::Refused(reason) => {
                self.progress.failed(format!("mailbox {name}"), reason);
                return Ok(None);
            }
            _ => return Err(odd()),
        }
        loop {
            match self.answer().await? {
                Control::Known(identities) => open.known.extend(identities),
                Control::KnownEnd => return Ok(Some(open)),
                _ => return Err(odd()),
            }
        }
    }

    pub async fn message(&mut self, head: MessageHead, body: &[u8]) -> Result<(), TransferError> {
        // Why nothing more is taken, before what would be lost in the pipe.
        if let Ok(Control::Failed(reason)) = self.answers.try_recv() {
            return Err(TransferError::Store(reason));
        }
        let sent = async {
            self.sink.control(&Control::Message(head)).await?;
            self.sink.body(body).await
        };
        let sent = sent.await;
        self.wrote(sent).await
    }

    /// All of the mailbox was handed over; returns when it is durable.
    pub async fn close(&mut self, mut open: Open) -> Result<(), TransferError> {
        let sent = self.sink.say(&Control::MailboxEnd).await;
        self.wrote(sent).await?;
        let Control::Closed(closed) = self.answer().await? else {
            return Err(odd());
        };
        open.report.messages = closed.messages;
        open.report.renumbered = closed.renumbered;
        open.report.keywords_lost = closed.keywords_lost;
        self.progress.say(&line(&open.report));
        self.reports.push(open.report);
        Ok(())
    }

    pub async fn subscribe(&mut self, name: String) -> Result<(), TransferError> {
        let sent = self.sink.control(&Control::Subscribed(name)).await;
        self.wrote(sent).await
    }

    pub async fn end(mut self) -> Result<Report, TransferError> {
        let sent = self.sink.say(&Control::End).await;
        self.wrote(sent).await?;
        match self.answer().await? {
            Control::End => Ok(self.progress.report(std::mem::take(&mut self.reports))),
            _ => Err(odd()),
        }
    }
}

impl<S> Drop for Import<S> {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

pub(super) fn odd() -> TransferError {
    TransferError::Store("the store's side said something that makes no sense".into())
}

/// One mailbox for people.
fn line(report: &MailboxReport) -> String {
    let mut line = format!("{}: {} messages", report.name, report.messages);
    if report.known > 0 {
        line.push_str(&format!(", {} were there already", report.known));
    }
    match report.uids_kept {
        Some(true) if report.renumbered > 0 => line.push_str(&format!(
            ", {} of them with new UIDs because later mail was there already",
            report.renumbered
        )),
        Some(true) => line.push_str(", UIDs kept"),
        Some(false) => line.push_str(", new UIDs: the mailbox had mail of its own before"),
        None => {}
    }
    if report.keywords_lost > 0 {
        line.push_str(&format!(
            ", {} keywords found no room",
            report.keywords_lost
        ));
    }
    line
}
