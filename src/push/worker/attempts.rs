//! Attempts to wake a device, from what the planner or its owner wants to what came of it.

use std::time::Instant;

use super::{Tested, Worker, now};
use crate::push::outcome::{Answer, Outcome, Untested};
use crate::push::planner::{Target, TestStart};
use crate::push::service;
use crate::push::tasks::{AbortOnDrop, jitter};
use crate::push::wakeup::{Prepared, Standing, prepared, standing, wake_up};
use crate::store::{DeviceState, OutboxEntry, OutboxKey, WakeSlot};
use crate::types::UnixMillis;

/// An attempt that ended.
pub(super) struct Finished {
    key: OutboxKey,
    answer: Answer,
    seconds: f64,
    own_key: bool,
    caused: UnixMillis,
}

impl Worker {
    pub(super) fn test(&mut self, to: Target, until: Instant, reply: Tested) {
        let Ok(Some(device)) = self.store.device(to.0, to.1) else {
            return;
        };
        let at = now();
        let origin = service::origin(&device.kind);
        let key = match self.planner.begin_test(at, to, &origin) {
            TestStart::Begun(key) => key,
            TestStart::Busy => return self.waiting_tests.push_back((to, until, reply)),
            TestStart::TooOften(wait) => {
                let retry_secs = wait.div_ceil(1000).max(1);
                let _ = reply.send(Err(Untested::TooOften { retry_secs }));
                return;
            }
        };
        self.tests.insert(key, reply);
        let entry = OutboxEntry {
            key,
            uids: vec![],
            count: 0,
            caused: at,
            due: at,
            expires: at.plus(60_000),
            attempts: 0,
        };
        let prepared = prepared(&self.store, device, Standing::default());
        self.attempt(entry, prepared, at);
    }

    /// Makes an attempt, unless there is nothing left to say.
    pub(super) fn send(&mut self, entry: OutboxEntry, at: UnixMillis) {
        let key = entry.key;
        let device = match self.store.device(key.account, key.device) {
            Ok(Some(device)) => device,
            Ok(None) => {
                self.planner.cancel(key);
                return self.planner.forget((key.account, key.device));
            }
            Err(error) => {
                tracing::error!(%error, "a device can't be read");
                let answer = Answer::own_fault("store");
                return self.planner.done(at, key, &answer, 0, true);
            }
        };
        let wanted = match (key.slot, &device.state) {
            (WakeSlot::Mail(_), DeviceState::Active) => true,
            (WakeSlot::Verify, DeviceState::Unverified { expires, .. }) => *expires > at,
            _ => false,
        };
        let standing = match key.slot {
            WakeSlot::Mail(mailbox) if wanted => standing(&self.store, &entry, mailbox),
            _ => Ok(Standing::default()),
        };
        match standing {
            Ok(standing) if wanted => {
                let prepared = prepared(&self.store, device, standing);
                self.attempt(entry, prepared, at);
            }
            _ => {
                self.planner.cancel(key);
                self.telemetry.push.ended(self.transport.name(), "settled");
            }
        }
    }

    fn attempt(&mut self, entry: OutboxEntry, prepared: Prepared, at: UnixMillis) {
        let (transport, store) = (self.transport.clone(), self.store.clone());
        let topic = self.topics.topic(entry.key);
        let (key, caused) = (entry.key, entry.caused);
        self.attempts.spawn(async move {
            let started = Instant::now();
            let own_key = transport.credentials_match(&prepared.device);
            // A task of its own, so that a panic ends as an outcome.
            let sending = tokio::spawn(async move {
                let wakeup = wake_up(&store, &entry, &prepared, topic, at).await;
                transport.send(&prepared.device, &wakeup, at).await
            });
            let answer = AbortOnDrop(sending)
                .await
                .unwrap_or_else(|_| Answer::own_fault("internal"));
            Finished {
                key,
                answer,
                seconds: started.elapsed().as_secs_f64(),
                own_key,
                caused,
            }
        });
    }

    pub(super) fn finished(&mut self, finished: Finished) {
        let at = now();
        let Finished { key, answer, .. } = &finished;
        let outcome = answer.outcome;
        let name = self.transport.name();
        self.telemetry
            .push
            .attempted(name, outcome.label(), finished.seconds);
        if outcome == Outcome::Delivered && matches!(key.slot, WakeSlot::Mail(_)) {
            let waited = self.store.since_commit(finished.caused);
            self.telemetry.push.woke(waited.as_secs_f64());
        }
        if answer.own_fault {
            self.telemetry.push.own_fault(answer.class);
        }
        if outcome != Outcome::Delivered {
            tracing::info!(
                account = key.account.0,
                device = key.device.0,
                outcome = outcome.label(),
                answer = %answer.describe(),
                "a device was not woken"
            );
        }
        self.planner
            .done(at, *key, answer, jitter(), finished.own_key);
        if let Some(reply) = self.tests.remove(key) {
            self.ended_tests.push((reply, finished.answer));
        }
    }
}
