//! `posthorn store backup`, `store restore`, and `store check` of a backup.
//!
//! May import: admin, config, store. The files are copied here, with the rights of whoever runs
//! the command; a running server only holds them.

use std::cell::Cell;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::args::{BackupArgs, RestoreArgs};
use super::commands::{connect, open_store, owned, print};
use super::{CliError, progress, show};
use crate::admin::{Reply, Request, Tell, socket};
use crate::config::Config;
use crate::store::backup::{self, BackedUp, BackupError, How, Source};

type Done = Result<(), CliError>;

fn failed(error: BackupError) -> CliError {
    CliError::failed(error)
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::failed)
}

/// So often the terminal hears how far it is.
const OFTEN: Duration = Duration::from_millis(200);

/// Tells how many bytes of how many are through.
fn counted<'a>(what: &'a str, tell: &'a Tell) -> impl Fn(u64, u64) + 'a {
    let last = Cell::new(None::<Instant>);
    move |done, all| {
        if last.get().is_some_and(|last| last.elapsed() < OFTEN) {
            return;
        }
        last.set(Some(Instant::now()));
        tell(&match all {
            0 => format!("{what}: {}", show::bytes(done)),
            all => format!("{what}: {} of {}", show::bytes(done), show::bytes(all)),
        });
    }
}

pub(super) fn make(path: &Path, config: &Config, args: BackupArgs, json: bool) -> Done {
    let to_stdout = args.to.as_deref() == Some(Path::new("-"));
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "an archive is nothing for a terminal: write it to a file or into a pipe".into(),
        ));
    }
    let runtime = runtime()?;
    let tell = progress::tell();
    let made = runtime.block_on(async {
        match connect(config).await? {
            Some(mut stream) => {
                let wait = Duration::from_secs(config.limits.admin_timeout_secs + 5);
                let reply = socket::ask_on(&mut stream, &Request::StoreHold, wait, &tell).await?;
                let Reply::Held { group } = reply else {
                    return Err(CliError::Failed("the running server did not answer".into()));
                };
                // Nothing comes but its end.
                let held = || {
                    let read = stream.try_read(&mut [0]);
                    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
                };
                copy(config, &args, group, &held, &tell)
            }
            None => {
                let (store, _) = open_store(path, config, false)?;
                let say = tell.clone();
                let made = match store.hold(Box::new(move |text| say(text))).await {
                    Ok(hold) => copy(config, &args, hold.group, &|| true, &tell),
                    Err(error) => Err(CliError::failed(error)),
                };
                store.close().await;
                made
            }
        }
    });
    progress::done();
    let reply = Reply::BackedUp { backup: made? };
    match to_stdout {
        true => {
            let _ = writeln!(std::io::stderr(), "{}", show::reply(&reply));
            Ok(())
        }
        false => print(&reply, json),
    }
}

fn copy(
    config: &Config,
    args: &BackupArgs,
    group: u64,
    held: &dyn Fn() -> bool,
    tell: &Tell,
) -> Result<BackedUp, CliError> {
    let how = How {
        copy: args.copy,
        rate: args.rate,
        group,
    };
    let data = &config.data_dir;
    let counted = counted("backing up", tell);
    let made = match (&args.dir, &args.to) {
        (Some(dir), _) => backup::to_directory(data, dir, how, held, &counted),
        (None, Some(file)) if file != Path::new("-") => {
            backup::to_file(data, file, how, held, &counted)
        }
        _ => backup::to_archive(data, &mut std::io::stdout().lock(), how, held, &counted),
    };
    made.map_err(failed)
}

pub(super) fn restore(config: &Config, args: RestoreArgs, json: bool) -> Done {
    let from = args.path.or(args.from);
    let from = from.ok_or_else(|| CliError::Usage("which backup?".into()))?;
    let source = if from == Path::new("-") {
        if std::io::stdin().is_terminal() {
            return Err(CliError::Usage(
                "an archive is expected on the input".into(),
            ));
        }
        Source::Archive(Box::new(std::io::stdin().lock()), "the archive".into())
    } else if from.is_dir() {
        Source::Directory(from)
    } else {
        let file = std::fs::File::open(&from);
        let file = file.map_err(|e| CliError::Failed(format!("{}: {e}", from.display())))?;
        let file = std::io::BufReader::with_capacity(1 << 20, file);
        Source::Archive(Box::new(file), from.display().to_string())
    };
    let data = &config.data_dir;
    owned(data)?;
    let tell = progress::tell();
    let counted = counted("restoring", &tell);
    let restored = backup::restore(source, data, args.set_aside, &counted);
    progress::done();
    let restored = restored.map_err(failed)?;
    // Builds the index, and shows that the store can be opened.
    tell("opening the store");
    let runtime = runtime()?;
    let opened = runtime.block_on(async {
        let (store, _) = open_store(Path::new("the configuration"), config, false)?;
        let status = store.status();
        store.close().await;
        Ok::<_, CliError>(status)
    });
    progress::done();
    let lost = opened?.lost_groups;
    print(&Reply::Restored { restored }, json)?;
    if lost > 0 {
        let _ = writeln!(
            std::io::stderr(),
            "posthorn: the store had lost {lost} groups of changes before the backup was made"
        );
    }
    Ok(())
}

pub(super) fn check(path: &Path, deep: bool, json: bool) -> Done {
    let tell = progress::tell();
    let checked = backup::check(path, deep, &counted("reading", &tell));
    progress::done();
    let report = checked.map_err(failed)?;
    let ok = report.ok;
    let report = Box::new(report);
    print(&Reply::BackupChecked { report }, json)?;
    if ok { Ok(()) } else { Err(CliError::Told) }
}
