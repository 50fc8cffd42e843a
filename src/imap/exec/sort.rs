//! SORT and THREAD on the store (RFC 5256, 3). Their order is made by `imap::sort` and
//! `imap::thread`.

use std::time::{Duration, Instant};

use super::search::{Hit, Scene};
use super::{Answer, Exec, Out, Refusal, aside};
use crate::imap::command::{Search, SortCriterion, ThreadAlgorithm};
use crate::imap::keys::Texts;
use crate::imap::sort::{Sorter, sent};
use crate::imap::thread::{Threaded, ordered_subject, references};
use crate::mail::{base_subject, casemap};
use crate::store::StoreError;
use crate::types::Uid;

/// How long keys are read before others may run.
const TURN: Duration = Duration::from_millis(5);
/// Messages between two looks at the clock.
const BETWEEN: usize = 16;

impl Exec {
    pub(super) async fn sorted(
        &self,
        scene: &Scene,
        criteria: &[SortCriterion],
        found: Vec<Hit>,
        out: &mut Out<'_>,
    ) -> Result<Vec<Hit>, Refusal> {
        let mut sorter = Sorter::new(criteria);
        let needs_texts = sorter.needs_texts();
        let none = Texts::default();
        let mut keys = self.keys_of(scene);
        let mut kept = Vec::with_capacity(found.len());
        let push = |hit: &Hit| {
            let uid = Uid(hit.uid);
            if needs_texts {
                keys.texts(uid)?;
            }
            let Some(facts) = keys.facts(uid)?.copied() else {
                return Ok(());
            };
            let texts = match needs_texts {
                true => keys.texts(uid)?,
                false => Some(&none),
            };
            if let Some(texts) = texts {
                sorter.push(&facts, texts, hit.score);
                kept.push(*hit);
            }
            Ok(())
        };
        each_in_turns(&found, push, out).await?;
        let order = aside(|| sorter.order());
        let hit = |n: u32| kept.get(n as usize).copied();
        Ok(order.into_iter().filter_map(hit).collect())
    }

    pub(super) async fn thread(
        &self,
        algorithm: ThreadAlgorithm,
        search: &Search,
        out: &mut Out<'_>,
    ) -> Answer {
        let (scene, found) = self.matching(search, out).await?;
        let mut keys = self.keys_of(&scene);
        let mut threaded = Vec::with_capacity(found.len());
        let push = |hit: &Hit| {
            let uid = Uid(hit.uid);
            keys.texts(uid)?;
            let Some(facts) = keys.facts(uid)?.copied() else {
                return Ok(());
            };
            let Some(texts) = keys.texts(uid)? else {
                return Ok(());
            };
            let base = base_subject(texts.subject());
            let mut message = Threaded {
                number: if search.uid { hit.uid } else { hit.seq },
                sent: sent(&facts, texts),
                subject: casemap(&base.text).into(),
                is_reply: base.is_reply,
                ..Threaded::default()
            };
            if algorithm == ThreadAlgorithm::References
                && let Some(links) = keys.links(uid)?
            {
                message.id = links.id;
                message.ancestors.clone_from(&links.ancestors);
            }
            threaded.push(message);
            Ok(())
        };
        each_in_turns(&found, push, out).await?;
        let trees = aside(|| match algorithm {
            ThreadAlgorithm::OrderedSubject => ordered_subject(&threaded),
            ThreadAlgorithm::References => references(&threaded),
        });
        out.buf.extend_from_slice(b"* THREAD");
        if !trees.is_empty() {
            out.buf.push(b' ');
        }
        out.put(trees.as_bytes()).await?;
        out.line("");
        Ok("Threaded".into())
    }
}

/// Does something that may read, with each, and lets others run in between.
async fn each_in_turns<T>(
    all: &[T],
    mut each: impl FnMut(&T) -> Result<(), StoreError>,
    out: &mut Out<'_>,
) -> Result<(), Refusal> {
    let mut rest = all;
    while !rest.is_empty() {
        let done = aside(|| {
            let began = Instant::now();
            for (n, one) in rest.iter().enumerate() {
                if n > 0 && n % BETWEEN == 0 && began.elapsed() >= TURN {
                    return Ok(n);
                }
                each(one)?;
            }
            Ok::<usize, StoreError>(rest.len())
        })?;
        rest = rest.get(done..).unwrap_or_default();
        tokio::task::yield_now().await;
        out.is_awaited(false).await?;
    }
    Ok(())
}
