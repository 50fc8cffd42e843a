//! Messages that come in: made ready beside the runtime while the batch before is committed.
//!
//! Bounded: a batch by messages and bytes; one is collected, two are made ready, one waits for
//! its commit. What is larger than a batch comes alone, through the store's spool.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Ended, Transfers};
use crate::store::{ImportOpen, ImportTo, Incoming, Prepared, Store, StoreError, Whose};
use crate::transfer::frames::{
    Closed, Control, Frames, IDENTITIES, MailboxHead, MessageHead, Sink,
};
use crate::types::{AccountId, Uid, UidValidity, UnixMillis};

const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A message above this comes alone.
const ALONE: u64 = 1024 * 1024;
/// Of a message that comes alone so much is in memory while it comes in.
const SPOOLED: usize = 64 * 1024;
/// How often a store that has too much to do is asked again.
const ATTEMPTS: u32 = 10;

type Writer<S> = Arc<Mutex<Sink<WriteHalf<S>>>>;

struct Run<'a, S> {
    transfers: &'a Transfers,
    account: AccountId,
    frames: Frames<ReadHalf<S>>,
    writer: &'a Writer<S>,
    /// Messages and bytes that are durable.
    stored: Arc<Mutex<(u64, u64)>>,
}

pub(super) async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(
    transfers: &Transfers,
    account: AccountId,
    reader: ReadHalf<S>,
    writer: &Writer<S>,
) -> Result<(), Ended> {
    let ready = Control::Ready {
        max_message_bytes: transfers.bounds.max_message_bytes,
    };
    writer.lock().await.say(&ready).await?;
    let mut run = Run {
        transfers,
        account,
        frames: Frames::new(reader),
        writer,
        stored: Arc::default(),
    };
    loop {
        match run.control().await? {
            Control::Mailbox(head) => run.mailbox(head).await?,
            Control::Subscribed(name) => {
                match transfers.store.subscribe(account, &name, true).await {
                    Ok(()) | Err(StoreError::Invalid(_) | StoreError::Limit(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Control::End => return Ok(()),
            _ => return Err(Ended::Said("something that has no sense here")),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Run<'_, S> {
    async fn control(&mut self) -> Result<Control, Ended> {
        let next = timeout(self.transfers.bounds.patience, self.frames.control()).await;
        let next = next.map_err(|_| Ended::Said("the import said nothing for too long"))?;
        Ok(next?)
    }

    async fn say(&self, control: &Control) -> io::Result<()> {
        self.writer.lock().await.say(control).await
    }

    async fn mailbox(&mut self, head: MailboxHead) -> Result<(), Ended> {
        let store = self.transfers.store.clone();
        let open = ImportOpen {
            name: head.name.clone(),
            uid_validity: (head.uid_validity != 0).then_some(UidValidity(head.uid_validity)),
            special_use: head.special_use,
            subscribed: head.subscribed,
        };
        let opened = match store.import_open(self.account, open).await {
            Ok(opened) => opened,
            Err(error @ (StoreError::Invalid(_) | StoreError::Limit(_))) => {
                return Ok(self.say(&Control::Refused(error.to_string())).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let keeps_uids = opened.keeps_uids;
        let mut known = Vec::new();
        let first = store.imported(opened.key, head.source, &mut |id| known.push(id))?;
        {
            let mut writer = self.writer.lock().await;
            writer.control(&Control::Opened { keeps_uids }).await?;
            for part in known.chunks(IDENTITIES) {
                writer.control(&Control::Known(part.to_vec())).await?;
            }
            writer.say(&Control::KnownEnd).await?;
        }
        drop(known);
        let to = ImportTo {
            mailbox: opened.key,
            source: head.source,
            keeps_uids,
            uid_next: Uid(head.uid_next),
        };
        let (batches, waiting) = mpsc::channel(1);
        let committing = Committing {
            store: store.clone(),
            to,
            number: first,
            writer: self.writer.clone(),
            stored: self.stored.clone(),
        };
        let committing = tokio::spawn(committing.run(waiting));
        let came = self.messages(&batches).await;
        drop(batches);
        // Its failure is why nothing more was taken.
        let closed = committing.await.map_err(|_| StoreError::Closed)??;
        came?;
        store.import_close(to).await?;
        Ok(self.say(&Control::Closed(closed)).await?)
    }

    async fn messages(&mut self, batches: &mpsc::Sender<Batch>) -> Result<(), Ended> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let head = match self.control().await? {
                Control::Message(head) => head,
                Control::MailboxEnd => return Ok(send(&mut batch, batches).await?),
                _ => return Err(Ended::Said("something that has no sense in a mailbox")),
            };
            if head.size > self.transfers.bounds.max_message_bytes {
                return Err(Ended::Said("a message that is larger than it may be"));
            }
            if head.size > ALONE {
                send(&mut batch, batches).await?;
                bytes = 0;
                let incoming = self.alone(head).await?;
                let one = tokio::spawn(async move { vec![incoming] });
                batches
                    .send(vec![one])
                    .await
                    .map_err(|_| StoreError::Closed)?;
                continue;
            }
            let mut body = Vec::with_capacity(head.size as usize);
            self.body(head.size, |piece| body.extend_from_slice(piece))
                .await?;
            bytes += body.len();
            batch.push((head, body));
            if batch.len() >= BATCH_MESSAGES || bytes >= BATCH_BYTES {
                send(&mut batch, batches).await?;
                bytes = 0;
            }
        }
    }

    /// IMAP has no way for a NUL (RFC 9051, 4.3.1): the command sends none.
    async fn body(&mut self, size: u64, mut each: impl FnMut(&[u8])) -> Result<(), Ended> {
        let mut nul = false;
        let body = self.frames.body(size, |piece| {
            nul |= piece.contains(&0);
            each(piece);
        });
        let came = timeout(self.transfers.bounds.patience, body).await;
        came.map_err(|_| Ended::Said("the import took too long over a message"))??;
        if nul {
            return Err(Ended::Said("there is a NUL byte in a message"));
        }
        Ok(())
    }

    async fn alone(&mut self, head: MessageHead) -> Result<Incoming, Ended> {
        let mut spool = self.transfers.store.spool(SPOOLED);
        self.body(head.size, |piece| spool.push(piece)).await?;
        let whose = Whose::Account(self.account);
        let message = spool.finish(Vec::new(), whose).await?;
        Ok(incoming(head, message))
    }
}

/// The parts of one batch, each made ready on a thread of its own.
type Batch = Vec<JoinHandle<Vec<Incoming>>>;

fn incoming(head: MessageHead, message: Prepared) -> Incoming {
    Incoming {
        identity: head.identity,
        message,
        flags: head.flags,
        date: UnixMillis::from_signed(head.date),
        zone: head.zone,
        uid: head.uid.map(Uid),
        line_ends: head.line_ends,
    }
}

async fn send(
    batch: &mut Vec<(MessageHead, Vec<u8>)>,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), StoreError> {
    if batch.is_empty() {
        return Ok(());
    }
    // A place first, so that no more are made ready than are waited for.
    let place = batches.reserve().await.map_err(|_| StoreError::Closed)?;
    let mut all = std::mem::take(batch);
    let half = all.split_off(all.len() / 2);
    let parts = [all, half].into_iter().filter(|part| !part.is_empty());
    let ready = |part: Vec<(MessageHead, Vec<u8>)>| {
        tokio::task::spawn_blocking(move || {
            let part = part.into_iter();
            part.map(|(head, body)| incoming(head, Prepared::from_bytes(Bytes::from(body))))
                .collect()
        })
    };
    place.send(parts.map(ready).collect());
    Ok(())
}

struct Committing<S> {
    store: Store,
    to: ImportTo,
    number: u32,
    writer: Writer<S>,
    stored: Arc<Mutex<(u64, u64)>>,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Committing<S> {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) -> Result<Closed, Ended> {
        let mut closed = Closed::default();
        while let Some(parts) = batches.recv().await {
            let mut batch = Vec::new();
            for part in parts {
                batch.extend(part.await.map_err(|_| StoreError::Closed)?);
            }
            let bytes: u64 = batch.iter().map(|one| one.message.raw_len()).sum();
            let messages = batch.len() as u64;
            let done = self.commit(batch).await?;
            self.number = self.number.saturating_add(1);
            closed.messages += messages;
            closed.renumbered += u64::from(done.renumbered);
            closed.keywords_lost += u64::from(done.keywords_lost);
            let stored = {
                let mut stored = self.stored.lock().await;
                stored.0 += messages;
                stored.1 += bytes;
                Control::Stored {
                    messages: stored.0,
                    bytes: stored.1,
                }
            };
            self.writer.lock().await.say(&stored).await?;
        }
        Ok(closed)
    }

    async fn commit(&self, batch: Vec<Incoming>) -> Result<crate::store::ImportBatch, StoreError> {
        for attempt in 1.. {
            match self.store.import(self.to, self.number, batch.clone()).await {
                Err(StoreError::Busy) if attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                done => return done,
            }
        }
        Err(StoreError::Busy)
    }
}
