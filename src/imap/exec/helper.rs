//! Work that another thread may do while a command does something else.
//!
//! May import: nothing of ours but the parent.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use parking_lot::Mutex;

use super::aside;

type Work<R> = Box<dyn FnOnce() -> R + Send>;

/// A piece of work. Who needs it before a thread has begun does it himself, so nobody waits
/// because threads are short. Dropped, it is not begun any more.
pub(super) struct Helper<R> {
    waiting: Arc<Mutex<Option<Work<R>>>>,
    result: Receiver<R>,
}

impl<R: Send + 'static> Helper<R> {
    pub(super) fn start(work: impl FnOnce() -> R + Send + 'static) -> Self {
        let work: Work<R> = Box::new(work);
        let waiting = Arc::new(Mutex::new(Some(work)));
        let (give, result) = sync_channel(1);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let waiting = waiting.clone();
            runtime.spawn_blocking(move || {
                let work = waiting.lock().take();
                if let Some(work) = work {
                    // Nobody may want it any more.
                    let _ = give.send(work());
                }
            });
        }
        Self { waiting, result }
    }

    /// None: the work came to no end.
    pub(super) fn done(self) -> Option<R> {
        let work = self.waiting.lock().take();
        if let Some(work) = work {
            return Some(work());
        }
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => aside(|| self.result.recv().ok()),
        }
    }
}

impl<R> Drop for Helper<R> {
    fn drop(&mut self) {
        self.waiting.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn is_done_by_one_or_the_other() {
        for n in 0..100 {
            assert_eq!(Helper::start(move || n + 1).done(), Some(n + 1));
        }
        let begun = Arc::new(tokio::sync::Notify::new());
        let told = begun.clone();
        let helper = Helper::start(move || {
            told.notify_one();
            1
        });
        begun.notified().await;
        assert_eq!(helper.done(), Some(1));
    }

    #[test]
    fn where_there_are_no_threads_it_is_done_by_who_needs_it() {
        assert_eq!(Helper::start(|| 7).done(), Some(7));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_fails_is_told() {
        let begun = Arc::new(tokio::sync::Notify::new());
        let told = begun.clone();
        let helper: Helper<u32> = Helper::start(move || {
            told.notify_one();
            std::panic::resume_unwind(Box::new(()))
        });
        begun.notified().await;
        assert_eq!(helper.done(), None);
    }
}
