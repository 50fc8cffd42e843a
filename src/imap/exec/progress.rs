//! Words to a client whose command takes long (RFC 9585), so that it knows that it is not
//! forgotten, and for how long it may have to wait.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::{Gone, Out};

/// The command that is carried out.
#[derive(Default)]
pub(super) struct Progress {
    tag: String,
    /// None: nothing is told.
    next: Option<Instant>,
    every: Duration,
    /// How much of how much is done, where that is known.
    done: Option<(u64, u64)>,
}

impl Out<'_> {
    /// From now on it is told every `every` that this command is under way; zero: never.
    pub(super) fn begin(&mut self, tag: &str, every: Duration) {
        self.progress = Progress {
            tag: tag.to_owned(),
            next: (!every.is_zero()).then(|| Instant::now() + every),
            every,
            done: None,
        };
    }

    /// How far the command is. The number done never falls, and never reaches the goal.
    pub(super) fn at(&mut self, done: u64, goal: u64) {
        let before = self.progress.done.map_or(0, |(done, _)| done);
        self.progress.done = (done < goal).then_some((done.max(before), goal));
    }

    /// The word, where it is time for it.
    pub(super) fn word(&mut self) -> bool {
        let progress = &mut self.progress;
        let now = Instant::now();
        if progress.next.is_none_or(|next| now < next) {
            return false;
        }
        progress.next = Some(now + progress.every);
        let (done, goal) = match progress.done {
            Some((done, goal)) => (done.to_string(), goal.to_string()),
            None => ("NIL".into(), "NIL".into()),
        };
        // RFC 9585, 4: a tag with a bracket would end the code.
        let tag = match progress.tag.contains(']') {
            true => "NIL".into(),
            false => format!("\"{}\"", progress.tag),
        };
        let text = format!("* OK [INPROGRESS ({tag} {done} {goal})] Still working");
        self.line(&text);
        true
    }

    /// Waits for work that says nothing itself. It is carried out to its end also where the
    /// client goes away meanwhile.
    pub(super) async fn during<R>(&mut self, work: impl Future<Output = R>) -> Result<R, Gone> {
        let mut work = pin!(work);
        while let Some(next) = self.progress.next {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep_until(next.into()) => {}
            }
            if self.word()
                && let Err(gone) = self.flush().await
            {
                work.await;
                return Err(gone);
            }
        }
        Ok(work.await)
    }
}
