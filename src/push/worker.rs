//! Runs the planner: feeds it the store's changes and the transports' answers, makes the
//! attempts that it asks for, and brings its edits into the store.
//!
//! Nothing here waits on the way from a change to the request: attempts run in tasks of their
//! own, and commits go on beside them, one at a time, each with all that gathered meanwhile. An
//! attempt may start before its entry is committed: until then the cursor is not either.

mod attempts;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::attempts::Finished;
use super::LOST_SETTING;
use super::batch::Batch;
use super::outcome::{Answer, Untested};
use super::planner::{Alarm, Edit, Limits, Planner, Step, Target, decode_lost, is_news, is_woken};
use super::service::{self, Transport};
use super::tasks::{Committing, commit, join, sleep_until};
use super::wakeup::TopicKey;
use crate::config::{Config, PushConfig};
use crate::store::{
    Change, Committed, Device, DeviceState, OutboxEntry, OutboxKey, Store, StoreError, WakeSlot,
};
use crate::telemetry::Telemetry;
use crate::types::{AccountId, MailboxId, MailboxKey, Uid, UnixMillis};

/// Between commits of nothing but the cursor, and after a commit that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long a test waits for its turn, and how many may: of all, and of one account.
pub(super) const TEST_PATIENCE: Duration = Duration::from_secs(5);
const MAX_WAITING_TESTS: usize = 64;
const MAX_WAITING_TESTS_PER_ACCOUNT: usize = 4;

/// What others ask of the worker.
pub(super) enum Command {
    Changed(Target),
    Test(Target, Tested),
}

/// Who asked for a test.
pub(super) type Tested = oneshot::Sender<Result<Answer, Untested>>;

pub(super) struct Worker {
    store: Store,
    config: Arc<ArcSwap<Config>>,
    seen_config: Arc<Config>,
    telemetry: Arc<Telemetry>,
    transport: Arc<dyn Transport>,
    edits: Arc<Mutex<()>>,
    topics: TopicKey,
    planner: Planner,
    inboxes: HashMap<AccountId, MailboxId>,
    /// Devices that are removed if their code does not come back.
    unverified: BTreeSet<(UnixMillis, Target)>,
    attempts: JoinSet<Finished>,
    tests: HashMap<OutboxKey, Tested>,
    /// Tests that wait for something else in flight, each until then.
    waiting_tests: VecDeque<(Target, Instant, Tested)>,
    /// Tests that ended, and are told when what they found is in the store: with the next
    /// commit, and with that under way.
    ended_tests: Vec<(Tested, Answer)>,
    committing_tests: Vec<(Tested, Answer)>,
    batch: Batch,
    committing: Option<Committing>,
    /// No commit before this.
    commit_after: Instant,
    last_commit: Instant,
}

fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn tell(tests: &mut Vec<(Tested, Answer)>) {
    for (reply, answer) in tests.drain(..) {
        let _ = reply.send(Ok(answer));
    }
}

fn limits(config: &PushConfig) -> Limits {
    Limits {
        coalesce: config.coalesce_secs.saturating_mul(1000),
        per_hour: config.max_per_hour,
        ttl: config.ttl_secs.saturating_mul(1000),
        in_flight_per_account: config.max_in_flight_per_account,
        in_flight_per_origin: config.max_in_flight_per_origin,
        in_flight: config.max_in_flight,
        max_rejections: config.max_rejections,
    }
}

impl Worker {
    /// Takes up what the store holds.
    pub(super) fn new(
        store: Store,
        config: Arc<ArcSwap<Config>>,
        telemetry: Arc<Telemetry>,
        transport: Arc<dyn Transport>,
        edits: Arc<Mutex<()>>,
        topics: TopicKey,
    ) -> Result<Self, StoreError> {
        let seen_config = config.load_full();
        let mut worker = Self {
            planner: Planner::new(limits(&seen_config.push)),
            store,
            config,
            seen_config,
            telemetry,
            transport,
            edits,
            topics,
            inboxes: HashMap::new(),
            unverified: BTreeSet::new(),
            attempts: JoinSet::new(),
            tests: HashMap::new(),
            waiting_tests: VecDeque::new(),
            ended_tests: Vec::new(),
            committing_tests: Vec::new(),
            batch: Batch::default(),
            committing: None,
            commit_after: Instant::now(),
            last_commit: Instant::now(),
        };
        for account in worker.store.directory().accounts() {
            for device in worker.store.devices(account.id)? {
                let to = (account.id, device.id);
                if let DeviceState::Unverified { expires, .. } = device.state {
                    worker.unverified.insert((expires, to));
                }
                if let Some(at) = device.last_success {
                    worker.planner.woken_before(now(), to, at);
                }
            }
        }
        let lost = worker.store.setting(LOST_SETTING)?.unwrap_or_default();
        for (to, since) in decode_lost(&lost) {
            if let Some(device) = worker.store.device(to.0, to.1)? {
                let last = device.last_failure.unwrap_or(since);
                worker.planner.lost_before(now(), to, since, last);
            }
        }
        for entry in worker.store.outbox()? {
            match worker.store.device(entry.key.account, entry.key.device)? {
                Some(device) => {
                    let (mut entry, at) = (entry, now());
                    // What that attempt made it wait for began in the future.
                    if device.last_failure.is_some_and(|failed| failed > at) {
                        entry.due = entry.due.min(at);
                    }
                    let origin = service::origin(&device.kind);
                    worker.planner.restore(at, entry, &origin);
                }
                None => worker.batch.add(Edit::Remove(entry.key)),
            }
        }
        Ok(worker)
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        // Without a cursor all of the log counts: "from now on" would forget the first mail ever,
        // where the server died before it was noted.
        let from = match self.store.cursor(crate::store::Worker::Push) {
            Ok(from) => from.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "no wake-ups: the cursor can't be read");
                return;
            }
        };
        let mut feed = self.store.feed(Some(from));
        let mut feed_after = Instant::now();
        loop {
            self.advance();
            let deadline = self.deadline();
            tokio::select! {
                () = stop.cancelled() => break,
                group = feed.next(), if feed_after <= Instant::now() => match group {
                    Ok(group) => {
                        // A reload may have come while nothing was to be done.
                        self.take_config();
                        self.changed(&group);
                    }
                    Err(StoreError::Closed) => break,
                    Err(error) => {
                        tracing::error!(%error, "changes can't be read, trying again");
                        feed_after = Instant::now() + PAUSE;
                    }
                },
                Some(finished) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    if let Ok(finished) = finished {
                        self.finished(finished);
                    }
                }
                result = join(&mut self.committing), if self.committing.is_some() => {
                    self.committed(result);
                }
                Some(command) = commands.recv() => self.command(command),
                () = sleep_until(deadline.or((feed_after > Instant::now()).then_some(feed_after))) => {}
            }
        }
        self.finish().await;
    }

    /// Attempts under way get a moment; those given up are owed still, and made again at the
    /// next start.
    async fn finish(mut self) {
        let moment = tokio::time::sleep(PAUSE);
        tokio::pin!(moment);
        while !self.attempts.is_empty() {
            tokio::select! {
                Some(Ok(finished)) = self.attempts.join_next() => self.finished(finished),
                () = &mut moment => break,
            }
        }
        self.attempts.abort_all();
        for edit in self.planner.take_edits() {
            self.batch.add(edit);
        }
        if self.committing.is_some() {
            let result = join(&mut self.committing).await;
            self.committed(result);
        }
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            if let Err((error, _)) = commit(self.store, self.edits, batch).await
                && error != StoreError::Closed
            {
                tracing::warn!(%error, "the notifier's last changes were not kept");
            }
        }
        tell(&mut self.ended_tests);
    }

    fn take_config(&mut self) {
        let config = self.config.load_full();
        if !Arc::ptr_eq(&config, &self.seen_config) {
            self.planner.set_limits(limits(&config.push));
            self.seen_config = config;
        }
    }

    /// Everything that can be done at this moment.
    fn advance(&mut self) {
        self.take_config();
        let at = now();
        while let Some((expires, to)) = self.unverified.first().copied()
            && expires <= at
        {
            self.unverified.remove(&(expires, to));
            self.expire_unverified(to, at);
        }
        while let Some(step) = self.planner.poll(at) {
            match step {
                Step::Send(entry) => self.send(entry, at),
                Step::Expired(_) => self.telemetry.push.ended(self.transport.name(), "expired"),
            }
        }
        for (to, until, reply) in std::mem::take(&mut self.waiting_tests) {
            if Instant::now() < until && !reply.is_closed() {
                self.test(to, until, reply);
            }
        }
        for _ in 0..self.planner.take_settled() {
            self.telemetry.push.ended(self.transport.name(), "settled");
        }
        for alarm in self.planner.take_alarms() {
            self.telemetry.push.alarm(match alarm {
                Alarm::CredentialsRefused => "credentials_refused",
                Alarm::OriginRefuses => "origin_refuses",
                Alarm::TransportStopped => "transport_stopped",
            });
        }
        for edit in self.planner.take_edits() {
            self.batch.add(edit);
        }
        if self.batch.is_only_cursor() {
            tell(&mut self.ended_tests);
        }
        let due = Instant::now() >= self.commit_time();
        if self.committing.is_none() && !self.batch.is_empty() && due {
            let batch = std::mem::take(&mut self.batch);
            let commit = commit(self.store.clone(), self.edits.clone(), batch);
            self.committing = Some(tokio::spawn(commit));
            self.committing_tests = std::mem::take(&mut self.ended_tests);
            self.last_commit = Instant::now();
        }
    }

    fn commit_time(&self) -> Instant {
        if self.batch.is_only_cursor() {
            self.commit_after.max(self.last_commit + PAUSE)
        } else {
            self.commit_after
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let planned = self.planner.deadline();
        let unverified = self.unverified.first().map(|(at, _)| *at);
        let earliest = planned.into_iter().chain(unverified).min();
        let planned = earliest.map(|at| Instant::now() + Duration::from_millis(at.since(now())));
        let waits = self.committing.is_none() && !self.batch.is_empty();
        let commit = waits.then(|| self.commit_time());
        let tests = self.waiting_tests.iter().map(|(_, until, _)| *until);
        planned.into_iter().chain(commit).chain(tests).min()
    }

    fn changed(&mut self, group: &Committed) {
        for change in group.changes.iter() {
            let done = match change {
                Change::Arrived {
                    mailbox,
                    uid,
                    flags,
                    source,
                } => {
                    let inbox = self.inbox(mailbox.account) == Some(mailbox.mailbox);
                    if is_news(inbox, *source, *flags) {
                        self.arrived(*mailbox, *uid, group.at)
                    } else {
                        Ok(())
                    }
                }
                Change::Seen { mailbox, uid } | Change::Expunged { mailbox, uid } => {
                    self.planner.settled(*mailbox, *uid);
                    Ok(())
                }
            };
            if let Err(error) = done {
                tracing::error!(%error, "devices can't be read: a wake-up is lost");
            }
        }
        self.batch.set_cursor(group.end);
    }

    fn inbox(&mut self, account: AccountId) -> Option<MailboxId> {
        if let Some(inbox) = self.inboxes.get(&account) {
            return Some(*inbox);
        }
        let mailboxes = self.store.mailboxes(account).ok()?;
        let inbox = mailboxes.find("INBOX")?.key.mailbox;
        self.inboxes.insert(account, inbox);
        Some(inbox)
    }

    fn arrived(&mut self, mailbox: MailboxKey, uid: Uid, at: UnixMillis) -> Result<(), StoreError> {
        for device in self.store.devices(mailbox.account)? {
            if is_woken(&device, at, now()) {
                let to = (device.account, device.id);
                let origin = service::origin(&device.kind);
                self.planner
                    .arrived(now(), to, &origin, mailbox.mailbox, uid, at);
            }
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Changed(to) => match self.store.device(to.0, to.1) {
                Ok(Some(device)) => self.device_changed(to, &device),
                Ok(None) => {
                    self.unverified.retain(|(_, other)| *other != to);
                    self.planner.forget(to);
                }
                Err(error) => tracing::warn!(%error, "a changed device can't be read"),
            },
            Command::Test(to, reply) => {
                let own = |(other, ..): &&(Target, _, _)| other.0 == to.0;
                let of_account = self.waiting_tests.iter().filter(own).count();
                if self.waiting_tests.len() < MAX_WAITING_TESTS
                    && of_account < MAX_WAITING_TESTS_PER_ACCOUNT
                {
                    let until = Instant::now() + TEST_PATIENCE;
                    self.waiting_tests.push_back((to, until, reply));
                }
            }
        }
    }

    fn device_changed(&mut self, to: Target, device: &Device) {
        self.unverified.retain(|(_, other)| *other != to);
        match &device.state {
            DeviceState::Active => self.planner.resumed(to),
            DeviceState::Paused { .. } => self.planner.drop_entries(to),
            DeviceState::Unverified { expires, .. } => {
                self.unverified.insert((*expires, to));
                let entry = OutboxEntry {
                    key: OutboxKey {
                        account: to.0,
                        device: to.1,
                        slot: WakeSlot::Verify,
                    },
                    uids: vec![],
                    count: 1,
                    caused: device.created,
                    due: now(),
                    expires: *expires,
                    attempts: 0,
                };
                self.planner
                    .restore(now(), entry, &service::origin(&device.kind));
            }
        }
    }

    fn expire_unverified(&mut self, to: Target, at: UnixMillis) {
        let device = self.store.device(to.0, to.1).ok().flatten();
        if let Some(DeviceState::Unverified { expires, .. }) = device.map(|d| d.state)
            && expires <= at
        {
            self.planner.forget(to);
            self.batch.add(Edit::RemoveDevice(to));
        }
    }

    fn committed(&mut self, result: Result<(), (StoreError, Batch)>) {
        self.committing = None;
        let mut ended = std::mem::take(&mut self.committing_tests);
        if let Err((error, batch)) = result {
            // A device went away in between: the next try leaves it out.
            if error == StoreError::NoDevice {
                self.ended_tests.append(&mut ended);
            } else {
                tracing::error!(%error, "the outbox can't be written, trying again");
                self.commit_after = Instant::now() + PAUSE;
            }
            let later = std::mem::take(&mut self.batch);
            self.batch = batch.followed_by(later);
        }
        tell(&mut ended);
    }
}
