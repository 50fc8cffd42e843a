//! IMAP (RFC 3501, RFC 9051 and extensions).
//!
//! May import: store, auth, tls, net, config, mail, telemetry, types. Machines: `capability`, `fragment`,
//! `parser`, `reading`, `session`, `encode`, `search`, `list`, `notify`; `exec` runs commands on the store;
//! `server` owns sockets.

mod bytes;
mod capability;
pub mod command;

mod encode;
mod exec;
mod fragment;
mod keys;
mod list;
pub mod notify;
pub mod object_id;
mod parser;
#[doc(hidden)]
pub mod reading;
mod search;
mod server;
mod session;
mod sort;
mod thread;

#[cfg(test)]
mod tests;

pub use keys::KeyCache;
pub use list::Pattern;
pub use server::{Context, start};

/// For the fuzzer: a session fed these bytes, whose work ends in all sorts of ways.
#[doc(hidden)]
pub fn fuzz_session(data: &[u8]) {
    use session::{Output, Session, Settings};
    let now = std::time::Instant::now();
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let settings = Settings {
        hostname: "imap.test".into(),
        limits: crate::config::ImapConfig {
            max_line_bytes: 500,
            ..Default::default()
        },
        tls: first & 1 == 0,
        clear_login: first & 2 == 0,
        offered: crate::auth::sasl::Offered::ALL,
    };
    let mut session = Session::new(settings, now);
    for piece in rest.chunks(usize::from(first >> 3) + 1) {
        session.input(now, piece);
        while let Some(output) = session.poll() {
            match output {
                Output::Login { .. } => session.done_login(now, Ok(())),
                Output::Execute(_) | Output::AppendEnd { .. } | Output::IdleEnd { .. } => {
                    session.done_executing(now, true);
                }
                Output::Append(piece) if piece.data.is_some_and(|data| data.size % 3 == 0) => {
                    session.append_refused(now, "NO [TRYCREATE] No such mailbox");
                }
                Output::Append(_) => session.append_accepted(now),
                Output::StartTls => session.tls_started(now),
                Output::Lookup(_) => {
                    session.done_lookup(now, Ok(crate::auth::sasl::Found::nobody()));
                }
                Output::Write(_)
                | Output::Forget
                | Output::Compress
                | Output::EndCompression
                | Output::AppendData(_)
                | Output::AppendAbort
                | Output::IdleBegin
                | Output::Close(_) => {}
            }
        }
    }
    session.tick(session.deadline());
}

/// For the fuzzer: one command line, with its literals.
#[doc(hidden)]
pub fn fuzz_parser(data: &[u8]) {
    use fragment::{Event, Fragmenter, Limits};
    let mut fragmenter = Fragmenter::new(Limits {
        max_line: 4096,
        max_literal: 4096,
        max_non_sync: 4096,
        max_literals_total: 8192,
        max_append: 4096,
    });
    fragmenter.feed(data);
    loop {
        match fragmenter.next() {
            Event::NeedInput => return,
            Event::Command(bytes) => {
                for utf8 in [false, true] {
                    let _ = parser::parse(
                        &bytes,
                        parser::Options {
                            max_depth: 32,
                            utf8,
                        },
                    );
                }
            }
            Event::LiteralRequested { .. } => fragmenter.continue_literal(),
            Event::Append { .. } => fragmenter.accept_append(),
            _ => {}
        }
    }
}
