//! Where an export goes.
//!
//! May import: types. Written beside the place where it will be, and renamed when all of it is on
//! disk: what is there is whole.

mod maildir;
mod mbox;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncRead;

use super::client::{TransferError, begin, odd};
use super::frames::{Control, Frames, MailboxHead, MessageHead};
use super::report::{MailboxReport, Progress, Report};

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `crlf`: files hold messages as IMAP gives them.
    Maildir {
        crlf: bool,
    },
    Mbox,
}

trait Writing {
    fn message(&mut self, head: &MessageHead, body: &[u8]) -> io::Result<()>;
    fn end(self: Box<Self>, progress: &Progress) -> io::Result<()>;
}

/// Writes what comes over the stream into `dir`, which may not be there or be empty. `nested`:
/// each account into a directory of its own.
pub async fn export<S: AsyncRead + Unpin>(
    stream: S,
    dir: &Path,
    form: Form,
    nested: bool,
    progress: Progress,
) -> Result<Report, TransferError> {
    let mut frames = Frames::new(stream);
    begin(&mut frames).await?;
    let partial = prepare(dir)?;
    let mut export = Export {
        root: partial.clone(),
        form,
        progress: progress.clone(),
        subscribed: Vec::new(),
        account: None,
        reports: Vec::new(),
    };
    let written = export.run(&mut frames, &partial, nested).await;
    let written = written.and_then(|()| {
        let at = |error: io::Error| TransferError::at(dir, error);
        let opened = fs::File::open(&partial).map_err(at)?;
        rustix::fs::syncfs(&opened).map_err(|error| at(error.into()))?;
        fs::rename(&partial, dir).map_err(at)?;
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = fs::File::open(parent.unwrap_or(Path::new("."))).map_err(at)?;
        parent.sync_all().map_err(at)
    });
    if written.is_err() {
        // Nothing of it is of use.
        let _ = fs::remove_dir_all(&partial);
    }
    written.map(|()| progress.report(export.reports))
}

/// The directory in which it is written until it is whole.
fn prepare(dir: &Path) -> Result<PathBuf, TransferError> {
    let at = |error: io::Error| TransferError::at(dir, error);
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(TransferError::at(
                    dir,
                    "it is not empty: an export goes into a new directory",
                ));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(error)),
    }
    let name = dir
        .file_name()
        .ok_or_else(|| TransferError::at(dir, "it has no name of its own"))?;
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = dir.with_file_name(partial);
    match fs::create_dir(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(TransferError::at(
            &partial,
            "left over by an export that was cut off, or one is running: remove it",
        )),
        Err(error) => Err(TransferError::at(&partial, error)),
        Ok(()) => Ok(partial),
    }
}

struct Export {
    root: PathBuf,
    form: Form,
    progress: Progress,
    subscribed: Vec<String>,
    account: Option<String>,
    reports: Vec<MailboxReport>,
}

impl Export {
    async fn run<S: AsyncRead + Unpin>(
        &mut self,
        frames: &mut Frames<S>,
        partial: &Path,
        nested: bool,
    ) -> Result<(), TransferError> {
        loop {
            match frames.control().await.map_err(TransferError::Link)? {
                Control::Account(address) => {
                    self.end_account()?;
                    if nested {
                        // An address has no `/`, and can't be a name that leads elsewhere.
                        self.root = partial.join(address.replace('/', "%2f"));
                        fs::create_dir(&self.root)
                            .map_err(|error| TransferError::at(&self.root, error))?;
                    }
                    self.account = Some(address);
                }
                Control::Mailbox(head) => self.mailbox(head, frames).await?,
                Control::Subscribed(name) => self.subscribed.push(name),
                Control::End => return self.end_account(),
                Control::Failed(reason) => return Err(TransferError::Store(reason)),
                _ => return Err(odd()),
            }
        }
    }

    fn end_account(&mut self) -> Result<(), TransferError> {
        let subscribed = std::mem::take(&mut self.subscribed);
        if self.account.take().is_none() || self.form == Form::Mbox {
            return Ok(());
        }
        maildir::subscriptions(&self.root, &subscribed)
            .map_err(|error| TransferError::at(&self.root, error))
    }

    async fn mailbox<S: AsyncRead + Unpin>(
        &mut self,
        head: MailboxHead,
        frames: &mut Frames<S>,
    ) -> Result<(), TransferError> {
        self.progress.begin(&head.name, head.messages);
        let at = |error| TransferError::at(&self.root, error);
        let mut writing: Box<dyn Writing> = match self.form {
            Form::Maildir { crlf } => {
                Box::new(maildir::Folder::new(&self.root, &head, crlf).map_err(at)?)
            }
            Form::Mbox => Box::new(mbox::File::new(&self.root, &head.name).map_err(at)?),
        };
        if head.subscribed {
            self.subscribed.push(head.name.clone());
        }
        let mut report = MailboxReport {
            name: head.name.clone(),
            ..MailboxReport::default()
        };
        loop {
            match frames.control().await.map_err(TransferError::Link)? {
                Control::Message(message) => {
                    let mut body = Vec::new();
                    let got = frames.body(message.size, |piece| body.extend_from_slice(piece));
                    got.await.map_err(TransferError::Link)?;
                    writing.message(&message, &body).map_err(at)?;
                    report.messages += 1;
                    self.progress.add(message.size);
                }
                Control::Damaged { uid, reason } => {
                    let what = format!("{}, UID {uid}", head.name);
                    self.progress.failed(what, reason);
                }
                Control::MailboxEnd => break,
                Control::Failed(reason) => return Err(TransferError::Store(reason)),
                _ => return Err(odd()),
            }
        }
        writing.end(&self.progress).map_err(at)?;
        let messages = report.messages;
        self.progress
            .say(&format!("{}: {messages} messages", head.name));
        self.reports.push(report);
        Ok(())
    }
}
