//! `posthorn store import` and `store export`: files are read and written here, with the rights
//! of whoever runs the command; the store is that of the running server, or opened here.
//!
//! May import: admin, config, transfer.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::DuplexStream;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::CliError;
use super::args::{ExportArgs, ImportArgs, Layout, TlsMode};
use super::commands::{connect, open_store, operations};
use super::out::write_line;
use crate::admin::{Request, socket};
use crate::config::Config;
use crate::transfer::client::{Import, TransferError};
use crate::transfer::imap::client::{Account, Tls};
use crate::transfer::report::{Progress, Report};
use crate::transfer::source::{imap, maildir, mbox};
use crate::transfer::target::{self, Form};

type Done = Result<(), CliError>;

/// What waits between the two sides where both are in this process.
const PIPE: usize = 1024 * 1024;
/// How often it is shown how far it is.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// Either side's stream.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl Stream for UnixStream {}
impl Stream for DuplexStream {}

enum Work {
    Import(Box<ImportArgs>, Option<Account>),
    Export(ExportArgs),
}

pub(super) fn import(path: &Path, config: &Config, args: Box<ImportArgs>, json: bool) -> Done {
    let server = server(&args)?;
    let address = args.account.clone();
    let request = Request::Import { address };
    run(path, config, request, Work::Import(args, server), json)
}

pub(super) fn export(path: &Path, config: &Config, args: ExportArgs, json: bool) -> Done {
    let request = Request::Export {
        address: args.account.clone(),
        mailbox: args.mailbox.clone(),
    };
    run(path, config, request, Work::Export(args), json)
}

fn run(path: &Path, config: &Config, request: Request, work: Work, json: bool) -> Done {
    request.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::failed)?;
    let progress = progress(json);
    let shown = shown(&progress, json);
    let report = runtime.block_on(async {
        let ticking = tokio::spawn(shown);
        let report = transfer(path, config, request, work, progress).await;
        ticking.abort();
        let _ = ticking.await;
        report
    })?;
    if json {
        write_line(&serde_json::to_string(&report).map_err(CliError::failed)?)?;
    } else {
        write_line(&summary(&report))?;
    }
    match report.failed {
        0 => Ok(()),
        _ => Err(CliError::Told),
    }
}

async fn transfer(
    path: &Path,
    config: &Config,
    request: Request,
    work: Work,
    progress: Progress,
) -> Result<Report, CliError> {
    match connect(config).await? {
        Some(mut stream) => {
            socket::begin(&mut stream, &request)
                .await
                .map_err(CliError::failed)?;
            works(Box::new(stream), work, progress).await
        }
        None => {
            let (store, telemetry) = open_store(path, config, false)?;
            let operations = operations(config, &store, telemetry);
            let done = async {
                let Some(transfer) = operations.transfer(&request)? else {
                    return Err(CliError::Failed("no import and no export".into()));
                };
                let (near, far) = tokio::io::duplex(PIPE);
                let serving = tokio::spawn(transfer.run(far));
                let done = works(Box::new(near), work, progress).await;
                let _ = serving.await;
                done
            };
            let done = done.await;
            store.close().await;
            done
        }
    }
}

async fn works(
    stream: Box<dyn Stream>,
    work: Work,
    progress: Progress,
) -> Result<Report, CliError> {
    let done = match work {
        Work::Import(args, server) => bring_in(stream, &args, server, progress).await,
        Work::Export(args) => {
            let (dir, form) = match (&args.to_maildir, &args.to_mbox) {
                (Some(dir), _) => (dir, Form::Maildir { crlf: args.crlf }),
                (None, Some(dir)) => (dir, Form::Mbox),
                (None, None) => return Err(CliError::Usage("say where to".into())),
            };
            target::export(stream, dir, form, args.all, progress).await
        }
    };
    done.map_err(CliError::failed)
}

async fn bring_in(
    stream: Box<dyn Stream>,
    args: &ImportArgs,
    server: Option<Account>,
    progress: Progress,
) -> Result<Report, TransferError> {
    let mut import = Import::begin(stream, progress).await?;
    let only = args.mailbox.as_deref();
    if let Some(dir) = &args.maildir {
        let layout = match args.layout {
            Layout::PlusPlus => maildir::Layout::PlusPlus,
            Layout::Fs => maildir::Layout::Fs,
        };
        maildir::import(&mut import, dir, layout, only).await?;
    }
    if let Some(file) = &args.mbox {
        mbox::import(&mut import, file, only.unwrap_or("INBOX")).await?;
    }
    if let Some(server) = &server {
        imap::import(&mut import, server, only).await?;
    }
    import.end().await
}

/// The other server, asked for its password.
fn server(args: &ImportArgs) -> Result<Option<Account>, CliError> {
    let Some(given) = &args.imap else {
        return Ok(None);
    };
    let (tls, usual) = match args.tls {
        TlsMode::Implicit => (Tls::Implicit, 993),
        TlsMode::Starttls => (Tls::Starttls, 143),
        TlsMode::None => (Tls::None, 143),
    };
    let wrong = || CliError::Usage(format!("--imap {given}: write it as HOST or HOST:PORT"));
    let (host, port) = match given.rsplit_once(':') {
        // An IPv6 address has brackets where a port follows.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong())?)
        }
        _ => (given.as_str(), usual),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let user = args.user.clone();
    let user = user.ok_or_else(|| CliError::Usage("--imap needs --user".into()))?;
    let password = if args.password_stdin {
        let mut line = Zeroizing::new(String::new());
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(CliError::failed)?;
        let len = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(len);
        line
    } else {
        let asked = rpassword::prompt_password(format!("Password of {user} at {host}: "));
        Zeroizing::new(asked.map_err(|error| {
            CliError::Failed(format!(
                "could not ask for a password ({error}); use --password-stdin"
            ))
        })?)
    };
    Ok(Some(Account {
        host: host.to_owned(),
        port,
        tls,
        ca: args.ca.clone(),
        user,
        password,
    }))
}

/// Lines for people, on standard error. On a terminal they take the place of the one that moves.
fn progress(json: bool) -> Progress {
    let terminal = std::io::stderr().is_terminal();
    Progress::new(move |line| {
        let clear = if terminal { "\r\x1b[K" } else { "" };
        if !json {
            let _ = writeln!(std::io::stderr(), "{clear}{line}");
        }
    })
}

/// One line that moves, on a terminal.
fn shown(progress: &Progress, json: bool) -> impl Future<Output = ()> + use<> {
    let (progress, begun) = (progress.clone(), Instant::now());
    let terminal = !json && std::io::stderr().is_terminal();
    async move {
        if !terminal {
            return;
        }
        loop {
            tokio::time::sleep(SHOWN_EVERY).await;
            let (messages, bytes) = progress.done();
            let (mailbox, _) = progress.mailbox();
            let rate = messages as f64 / begun.elapsed().as_secs_f64().max(0.001);
            let megabytes = bytes as f64 / 1e6;
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K{messages} messages, {megabytes:.1} MB, {rate:.0}/s: {mailbox}"
            );
        }
    }
}

fn summary(report: &Report) -> String {
    let mut line = format!(
        "{} messages, {:.1} MB",
        report.messages,
        report.bytes as f64 / 1e6
    );
    if report.known > 0 {
        line.push_str(&format!(", {} were there already", report.known));
    }
    if report.failed > 0 {
        line.push_str(&format!("; {} could not be taken", report.failed));
    }
    line
}
