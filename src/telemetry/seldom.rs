//! Log lines that whoever reads mail can cause, again and again: the metric counts all of them,
//! the log has some.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines of one kind within [`WINDOW`].
const LINES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// When the window began, and how many lines were asked for since.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Option<(Instant, u64)>>);

impl Seldom {
    /// None: no line now. Else how many were left out since the last one.
    pub(super) fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        match &mut *state {
            Some((since, asked)) if now.saturating_duration_since(*since) < WINDOW => {
                *asked += 1;
                (*asked <= LINES).then_some(0)
            }
            before => {
                let left_out = before.map_or(0, |(_, asked)| asked.saturating_sub(LINES));
                *before = Some((now, 1));
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_and_how_many_were_left_out() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let lines = (0..25).filter(|_| seldom.line_at(start).is_some()).count();
        assert_eq!(lines, 10);
        let later = start + WINDOW;
        assert_eq!(seldom.line_at(later), Some(15));
        assert_eq!(seldom.line_at(later), Some(0));
        assert_eq!(seldom.line_at(later + WINDOW), Some(0));
    }
}
