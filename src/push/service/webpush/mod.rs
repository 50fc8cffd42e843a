//! Web Push: RFC 8030 requests, encrypted for the device (RFC 8291), signed by us (RFC 8292).
//!
//! This file holds the socket side; `crypto` and `exchange` are machines.

pub(crate) mod crypto;
mod exchange;
pub(crate) mod vapid;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use self::crypto::Receiver;
use self::exchange::{Received, Verdict};
use self::vapid::Vapid;
use super::{Sending, Transport, WakeUp};
use crate::config::Config;
use crate::net::lookup::Lookups;
use crate::push::client::{Clients, FOR_ACCOUNT, NoClient};
use crate::push::outcome::{Answer, Outcome, Rejection};
use crate::store::{Device, DeviceKind, Store};
use crate::types::UnixMillis;

/// Of an answer's body; the rest is not read.
const MAX_ANSWER: usize = 4096;
/// For bodies that nobody waits for.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// `https://host[:port]` of an endpoint; empty where it is no URL.
pub(crate) fn origin(endpoint: &str) -> String {
    Url::parse(endpoint)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}

/// Sends to Web Push services and UnifiedPush servers, which speak the same.
pub(crate) struct WebPush {
    store: Store,
    config: Arc<ArcSwap<Config>>,
    vapid: Arc<Vapid>,
    clients: Clients,
}

impl WebPush {
    pub(crate) fn new(store: Store, config: Arc<ArcSwap<Config>>, vapid: Arc<Vapid>) -> Self {
        Self {
            clients: Clients::new(config.clone(), Lookups::new()),
            store,
            config,
            vapid,
        }
    }

    /// Can anything be sent at all? Err: a class.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match self.clients.check() {
            Err(NoClient::Ours(class) | NoClient::Refused(class)) => Err(class),
            Ok(()) => Ok(()),
        }
    }

    async fn try_send(&self, device: &Device, wakeup: &WakeUp, now: UnixMillis) -> Answer {
        let DeviceKind::WebPush {
            endpoint,
            p256dh,
            auth,
            ..
        } = &device.kind;
        let refused = |class| Answer::none(Outcome::Rejected(Rejection::Message), class);
        let (client, url) = match self.clients.for_endpoint(endpoint) {
            Ok(found) => found,
            Err(NoClient::Refused(class)) => return refused(class),
            Err(NoClient::Ours(class)) => return Answer::own_fault(class),
        };
        let to = Receiver {
            public: p256dh,
            auth,
        };
        let origin = url.origin().ascii_serialization();
        let subject = self.subject();
        let (mut signed_anew, mut shrunk) = (false, false);
        loop {
            let plain = if shrunk { &wakeup.small } else { &wakeup.full };
            let Some((own, salt)) = randomness() else {
                return Answer::own_fault("randomness");
            };
            // Its keys can't be worked with.
            let Ok(body) = crypto::encrypt_padded(plain, to, &own, &salt) else {
                return refused("encryption");
            };
            let Ok(token) = self.vapid.header(&origin, &subject, now) else {
                return Answer::own_fault("signature");
            };
            let mut request = client.post(url.clone()).header(AUTHORIZATION, token);
            for (name, value) in
                exchange::headers(wakeup.ttl_secs, wakeup.urgency, wakeup.topic.as_deref())
            {
                request = request.header(name, value);
            }
            match exchanged(request.body(body), now).await {
                Ok(Verdict::Done(answer)) => return answer,
                Ok(Verdict::SignAnew(answer)) => {
                    self.vapid.forget(&origin);
                    if std::mem::replace(&mut signed_anew, true) {
                        return answer;
                    }
                }
                Ok(Verdict::Shrink(answer)) => {
                    if std::mem::replace(&mut shrunk, true) {
                        return answer;
                    }
                }
                Err(answer) => return answer,
            }
        }
    }

    /// Push services want to know whom to write to; some check that the domain could exist.
    fn subject(&self) -> String {
        let config = self.config.load();
        if let Some(subject) = &config.push.vapid_subject {
            return subject.clone();
        }
        let directory = self.store.directory();
        let first = directory.domains().min_by_key(|d| (d.created, &d.domain));
        let domain = first.map_or(config.hostname.as_str(), |d| d.domain.as_str());
        format!("mailto:postmaster@{domain}")
    }
}

/// A key pair and a salt for one message.
fn randomness() -> Option<(PrivateKey, [u8; 16])> {
    let own = PrivateKey::generate(&ECDH_P256).ok()?;
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).ok()?;
    Some((own, salt))
}

/// One request and its answer; Err: no answer came.
async fn exchanged(request: reqwest::RequestBuilder, now: UnixMillis) -> Result<Verdict, Answer> {
    let mut response = request.send().await.map_err(|error| failure(&error))?;
    let mut body = Vec::new();
    // What is to be done is in the status; only a 400 needs its body.
    while response.status() == StatusCode::BAD_REQUEST && body.len() < MAX_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = MAX_ANSWER - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            // The status counts, whatever became of the body.
            Ok(None) | Err(_) => break,
        }
    }
    let retry_after = response.headers().get(RETRY_AFTER);
    let verdict = exchange::judge(
        &Received {
            status: response.status().as_u16(),
            retry_after: retry_after.and_then(|value| value.to_str().ok()),
            body: &body,
        },
        now,
    );
    if response.content_length() != Some(0) {
        tokio::spawn(tokio::time::timeout(DRAIN_TIME, drain(response)));
    }
    Ok(verdict)
}

/// Reads the little that is left, so that the connection can be used again.
async fn drain(mut response: reqwest::Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await
        && read < MAX_ANSWER
    {
        read += chunk.len();
    }
}

fn failure(error: &reqwest::Error) -> Answer {
    let class = if crate::push::client::was_refused(error) {
        // Not the service's trouble: nothing there may be spoken to.
        return Answer::none(Outcome::Rejected(Rejection::Message), "address-not-allowed");
    } else if let Some(class) = crate::push::client::no_address(error) {
        class
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "connect"
    } else if error.is_builder() {
        return Answer::none(Outcome::Rejected(Rejection::Message), "request");
    } else {
        "connection"
    };
    Answer::none(Outcome::Transient { wait: None }, class)
}

impl Transport for WebPush {
    fn name(&self) -> &'static str {
        "webpush"
    }

    fn send<'a>(&'a self, device: &'a Device, wakeup: &'a WakeUp, now: UnixMillis) -> Sending<'a> {
        Box::pin(async move {
            // The second try after 401 or 413 is within the same limit.
            let secs = self.config.load().push.request_timeout_secs;
            let limit = Duration::from_secs(secs);
            let sending = FOR_ACCOUNT.scope(device.account, self.try_send(device, wakeup, now));
            tokio::time::timeout(limit, sending)
                .await
                .unwrap_or_else(|_| Answer::none(Outcome::Transient { wait: None }, "timeout"))
        })
    }

    fn credentials_match(&self, device: &Device) -> bool {
        let DeviceKind::WebPush { vapid_key, .. } = &device.kind;
        vapid_key.is_empty() || vapid_key == self.vapid.public()
    }
}

/// See [`crate::push::fuzz_subscription`].
pub(crate) fn fuzz(data: &[u8]) {
    let (keys, rest) = data.split_at(data.len().min(81));
    let (public, auth) = keys.split_at(keys.len().min(65));
    let to = Receiver { public, auth };
    if let Some((own, salt)) = randomness() {
        let plain = &rest[..rest.len().min(crypto::MAX_PLAIN)];
        let sealed = crypto::encrypt_padded(plain, to, &own, &salt);
        debug_assert!(sealed.map_or(true, |body| body.len() <= 2744));
    }
    let text = String::from_utf8_lossy(rest);
    let guard = crate::net::guard::Guard::default();
    let _ = guard.url(&text);
    let _ = crate::net::guard::Guard::new(&[text.to_string()], true);
    let status = data
        .get(..2)
        .map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    let received = Received {
        status,
        retry_after: Some(&text),
        body: rest,
    };
    let _ = exchange::judge(&received, UnixMillis(0));
}
