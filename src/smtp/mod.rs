//! SMTP in: MX and submission (RFC 5321, RFC 6409 and extensions).
//!
//! May import: store, auth, tls, net, config, mail, telemetry, types. Machines: `parser`,
//! `reply`, `data`, `session`; `server` owns the sockets.

mod data;
mod parser;
mod reply;
mod server;
mod session;

#[cfg(test)]
mod tests;

pub use server::{Context, start};

/// For the fuzzer: a session that is fed these bytes, with answers of all sorts to its work.
#[doc(hidden)]
pub fn fuzz_session(data: &[u8]) {
    use session::{Admission, Answer, Output, Role, Session, Settings, Work};
    let now = std::time::Instant::now();
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let mut session = Session::new(
        Settings {
            role: if first & 1 == 0 {
                Role::Mx
            } else {
                Role::Submission
            },
            hostname: "mx.test".into(),
            limits: crate::config::SmtpConfig {
                max_message_bytes: 1000,
                ..Default::default()
            },
            tls: first & 2 == 0,
            can_start_tls: true,
            clear_login: first & 4 == 0,
            offered: crate::auth::sasl::Offered::ALL,
        },
        now,
    );
    for piece in rest.chunks(usize::from(first >> 3) + 1) {
        if !session.is_busy() {
            session.input(now, piece);
        }
        while let Some(output) = session.poll() {
            let answer = match output {
                Output::Work(Work::Resolve(..)) => {
                    Answer::Resolved(crate::store::Resolution::Accounts(vec![Default::default()]))
                }
                Output::Work(Work::Lookup(_)) => {
                    Answer::Found(Ok(crate::auth::sasl::Found::nobody()))
                }
                Output::Work(Work::Login(_)) => Answer::LoggedIn(Ok(Default::default())),
                Output::Work(Work::Admit { .. }) => Answer::Admitted(Admission::Yes),
                Output::Work(Work::OpenUrl(url)) if url.len() % 3 == 0 => {
                    Answer::Part(Err(session::PartError::Refused))
                }
                Output::Work(Work::OpenUrl(_)) => Answer::Part(Ok(Some(b"part\r\n".to_vec()))),
                Output::Work(Work::ReadUrl) => Answer::Part(Ok(None)),
                Output::Work(Work::Deliver(_)) => Answer::Delivered(Ok("kept".into())),
                Output::StartTls => {
                    session.tls_started(now);
                    continue;
                }
                Output::Write(_)
                | Output::Message(_)
                | Output::Discard
                | Output::Refused(_)
                | Output::Close => continue,
            };
            session.answer(now, answer);
        }
    }
    session.timeout();
}
