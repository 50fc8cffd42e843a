//! What the operator tells the process: reload, stop, stop at once.
//!
//! May import: nothing of ours.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Reload,
    Stop,
}

pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves. To be called before the
    /// runtime is made that waits for them.
    pub(super) fn new() -> io::Result<Self> {
        // On a runtime that nobody drives. Another one could be quick enough to tell of a signal
        // that comes between its handler and its listener, and nobody would have heard it.
        let idle = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let _entered = idle.enter();
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
        }
    }
}
