//! Where an import comes from.
//!
//! May import: mail, types. These read files and speak to servers with the rights of whoever
//! runs the command.

pub mod imap;
pub mod maildir;
pub mod mbox;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};

use super::client::{Import, TransferError};
use super::frames::MessageHead;

/// Bytes that were read from files and wait to be handed over, in KiB.
const WAITING: usize = 16 * 1024;

/// Why a message with a NUL can't come in.
const NUL: &str = "it holds a NUL byte, which IMAP can't carry";

fn too_large(size: u64, most: u64) -> String {
    format!("{size} bytes, and imap.max_append_bytes is {most}")
}

/// What a thread that reads files hands over.
pub(super) struct Hand {
    to: mpsc::Sender<(MessageHead, Vec<u8>, tokio::sync::OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
}

impl Hand {
    /// False: nobody takes it any more.
    pub(super) fn over(&self, head: MessageHead, body: Vec<u8>) -> bool {
        let needed = (body.len() / 1024 + 1).min(WAITING) as u32;
        let room = self.room.clone().acquire_many_owned(needed);
        let Ok(room) = self.runtime.block_on(room) else {
            return false;
        };
        self.to.blocking_send((head, body, room)).is_ok()
    }
}

/// Has `read` read on a thread of its own, and hands over what it gives.
pub(super) async fn hand_over<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    read: impl FnOnce(&Hand) -> Result<(), TransferError> + Send + 'static,
) -> Result<(), TransferError> {
    let (to, mut from) = mpsc::channel(256);
    let hand = Hand {
        to,
        room: Arc::new(Semaphore::new(WAITING)),
        runtime: tokio::runtime::Handle::current(),
    };
    let reading = tokio::task::spawn_blocking(move || read(&hand));
    while let Some((head, body, _room)) = from.recv().await {
        import.message(head, &body).await?;
    }
    match reading.await {
        Ok(read) => read,
        Err(error) => Err(TransferError::Other(error.to_string())),
    }
}
