//! What connections are doing: one family for all protocols.

use prometheus::{IntGaugeVec, Opts, Registry};

use super::MetricError;

/// Protocols with their states, as labels.
const STATES: [(&str, &[&str]); 4] = [
    ("smtp", &["greeting", "ready", "transaction", "message"]),
    (
        "submission",
        &[
            "greeting",
            "ready",
            "authenticated",
            "transaction",
            "message",
        ],
    ),
    (
        "imap",
        &["not_authenticated", "authenticated", "selected", "idle"],
    ),
    ("http", &["idle", "active"]),
];

/// Where an SMTP connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpState {
    /// The client has not said who it is.
    Greeting,
    Ready,
    Authenticated,
    /// MAIL was accepted.
    Transaction,
    /// A message comes in, or is being stored.
    Message,
}

impl SmtpState {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ready => "ready",
            Self::Authenticated => "authenticated",
            Self::Transaction => "transaction",
            Self::Message => "message",
        }
    }
}

/// The family. Clones share it.
#[derive(Clone)]
pub struct Connections(IntGaugeVec);

impl Connections {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricError> {
        let family = IntGaugeVec::new(
            Opts::new(
                "posthorn_connections",
                "Connections that are open and through with any TLS handshake, by protocol and \
                 state.",
            ),
            &["protocol", "state"],
        )?;
        registry.register(Box::new(family.clone()))?;
        for (protocol, states) in STATES {
            for state in states {
                family.with_label_values(&[protocol, state]).set(0);
            }
        }
        Ok(Self(family))
    }

    /// None is before the first state and after the last.
    pub(super) fn moved(
        &self,
        protocol: &'static str,
        from: Option<&'static str>,
        to: Option<&'static str>,
    ) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.0.with_label_values(&[protocol, from]).dec();
        }
        if let Some(to) = to {
            self.0.with_label_values(&[protocol, to]).inc();
        }
    }

    /// An SMTP connection begins; `service` is `smtp` or `submission`.
    pub fn smtp(&self, service: &'static str) -> SmtpStanding {
        SmtpStanding(self.standing(service, SmtpState::Greeting.label()))
    }

    /// An HTTP connection begins.
    pub fn http(&self) -> HttpStanding {
        HttpStanding(self.standing("http", "idle"))
    }

    fn standing(&self, protocol: &'static str, state: &'static str) -> Standing {
        self.moved(protocol, None, Some(state));
        Standing {
            family: self.clone(),
            protocol,
            state,
        }
    }
}

/// Counts one connection until it is dropped, by a panic too.
struct Standing {
    family: Connections,
    protocol: &'static str,
    state: &'static str,
}

impl Standing {
    fn set(&mut self, state: &'static str) {
        self.family
            .moved(self.protocol, Some(self.state), Some(state));
        self.state = state;
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.family.moved(self.protocol, Some(self.state), None);
    }
}

/// Counts one SMTP connection.
pub struct SmtpStanding(Standing);

impl SmtpStanding {
    pub fn set(&mut self, state: SmtpState) {
        self.0.set(state.label());
    }
}

/// Counts one HTTP connection.
pub struct HttpStanding(Standing);

impl HttpStanding {
    /// Is a request being answered?
    pub fn set(&mut self, active: bool) {
        self.0.set(if active { "active" } else { "idle" });
    }
}
