//! What connections are doing: one family for all protocols.

use prometheus::{IntGaugeVec, Opts, Registry};

use super::{ImapState, MetricError};

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
    fn moved(&self, protocol: &'static str, from: Option<&'static str>, to: Option<&'static str>) {
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

    /// An IMAP connection begins.
    pub fn imap(&self, state: ImapState) -> ImapStanding {
        ImapStanding(self.standing("imap", state.label()))
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

/// Counts one IMAP connection.
pub struct ImapStanding(Standing);

impl ImapStanding {
    pub fn set(&mut self, state: ImapState) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_takes_its_connection_out_of_the_count() {
        let connections = Connections::new(&Registry::new()).unwrap();
        let count = |state| connections.0.with_label_values(&["imap", state]).get();
        let mut other = connections.imap(ImapState::NotAuthenticated);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut standing = connections.imap(ImapState::NotAuthenticated);
            assert_eq!(count("not_authenticated"), 2);
            standing.set(ImapState::Selected);
            standing.set(ImapState::Selected);
            assert_eq!((count("not_authenticated"), count("selected")), (1, 1));
            panic!("on purpose");
        }));
        assert!(ended.is_err());
        assert_eq!((count("not_authenticated"), count("selected")), (1, 0));
        other.set(ImapState::Idle);
        assert_eq!((count("not_authenticated"), count("idle")), (0, 1));
        drop(other);
        assert_eq!(count("idle"), 0);
    }
}
