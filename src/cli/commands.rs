//! Does what was typed.
//!
//! May import: admin, app, auth, config, store, telemetry. A command that needs the store asks
//! the running server; where none runs it opens the store itself.

use std::io::{BufRead, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::args::*;
use super::out::write_line;
use super::{CliError, backup, check, progress, show, transfer};
use crate::admin::devices::Devices;
use crate::admin::protocol::NewWebPush;
use crate::admin::{Operations, Password, Reply, Request, socket};
use crate::app;
use crate::auth::Auth;
use crate::config::Config;
use crate::net::lookup::Lookups;
use crate::store::{OpenError, Options, Store};
use crate::telemetry::Telemetry;
use crate::transfer::serve::Bounds;

type Done = Result<(), CliError>;

pub(super) fn run(args: Args) -> Done {
    let Args {
        config,
        json,
        command,
    } = args;
    let path = config.unwrap_or_else(usual_config);
    let load = || Config::load(&path).map_err(CliError::failed);
    let request = match command {
        Command::Demo(demo) => return run_demo(demo, json),
        Command::Serve => return app::serve(&path).map_err(CliError::failed),
        Command::Config(ConfigCommand::Check) => return check::run(&path, json),
        Command::Account(command) => {
            // Nobody is asked for a password in vain.
            load()?;
            account(command)?
        }
        Command::Alias(command) => match command {
            AliasCommand::Add { address, targets } => Request::AliasAdd { address, targets },
            AliasCommand::Remove { address } => Request::AliasRemove { address },
            AliasCommand::List => Request::AliasList,
        },
        Command::Domain(command) => match command {
            DomainCommand::Add { domain } => Request::DomainAdd { domain },
            DomainCommand::Remove { domain } => Request::DomainRemove { domain },
            DomainCommand::List => Request::DomainList,
        },
        Command::Device(command) => match command {
            DeviceCommand::List { address } => Request::DeviceList { address },
            DeviceCommand::Add {
                address,
                name,
                endpoint,
                p256dh,
                auth,
            } => Request::DeviceAdd {
                address,
                device: NewWebPush {
                    name,
                    endpoint,
                    p256dh,
                    auth,
                },
            },
            DeviceCommand::Remove { address, id } => Request::DeviceRemove { address, id },
            DeviceCommand::Test { address, id } => Request::DeviceTest { address, id },
        },
        Command::Store(command) => match command {
            StoreCommand::Image => Request::StoreImage,
            StoreCommand::Compact => Request::StoreCompact,
            StoreCommand::Check { backup: None, deep } => Request::StoreCheck { deep },
            StoreCommand::Check {
                backup: Some(path),
                deep,
            } => return backup::check(&path, deep, json),
            StoreCommand::Backup(args) => return backup::make(&path, &load()?.0, args, json),
            StoreCommand::Restore(args) => return backup::restore(&load()?.0, args, json),
            StoreCommand::Import(args) => {
                return transfer::import(&path, &load()?.0, args, json);
            }
            StoreCommand::Export(args) => {
                return transfer::export(&path, &load()?.0, args, json);
            }
        },
        Command::Status => Request::Status,
    };
    request.check()?;
    let reply = operate(&path, &load()?.0, request)?;
    print(&reply, json)?;
    match reply {
        Reply::Tested {
            delivered: false, ..
        } => Err(CliError::Told),
        Reply::Checked { report } if !report.ok => Err(CliError::Told),
        _ => Ok(()),
    }
}

/// An empty variable is as good as none.
fn usual_config() -> PathBuf {
    std::env::var_os("POSTHORN_CONFIG")
        .filter(|path| !path.is_empty())
        .map_or_else(|| "config/posthorn.toml".into(), PathBuf::from)
}

fn run_demo(demo: DemoArgs, json: bool) -> Done {
    let accounts = demo
        .account
        .iter()
        .map(|given| match given.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Ok((name.to_owned(), password.to_owned()))
            }
            _ => Err(CliError::Usage(format!(
                "--account {given}: write it as NAME:PASSWORD"
            ))),
        })
        .collect::<Result<_, _>>()?;
    app::demo::run(app::demo::Options {
        dir: demo.dir,
        port_base: demo.port_base,
        domain: demo.domain,
        accounts,
        numbered: demo.accounts,
        password: demo.password,
        insecure_login: demo.insecure_login,
        json,
    })
    .map_err(CliError::failed)
}

fn account(command: AccountCommand) -> Result<Request, CliError> {
    // Looked at before anybody is asked for anything.
    let checked = |address: String| {
        let shown = Request::AccountShow {
            address: address.clone(),
        };
        shown.check().map(|()| address)
    };
    Ok(match command {
        AccountCommand::Add { address, password } => {
            let address = checked(address)?;
            let password = new_password(&address, &password)?;
            Request::AccountAdd { address, password }
        }
        AccountCommand::Passwd { address, password } => {
            let address = checked(address)?;
            let password = new_password(&address, &password)?;
            Request::AccountPasswd { address, password }
        }
        AccountCommand::Remove {
            address,
            yes,
            keep_days,
        } => {
            let address = checked(address)?;
            if !yes {
                confirm(&match keep_days {
                    None => format!("Remove {address} with all its mail?"),
                    Some(days) => format!(
                        "Disable {address} now, and remove it with all its mail in {days} days?"
                    ),
                })?;
            }
            Request::AccountRemove { address, keep_days }
        }
        AccountCommand::Restore { address } => Request::AccountRestore {
            address: checked(address)?,
        },
        AccountCommand::Quota {
            address,
            bytes,
            messages,
        } => Request::AccountQuota {
            address: checked(address)?,
            bytes,
            messages,
        },
        AccountCommand::List => Request::AccountList,
        AccountCommand::Show { address } => Request::AccountShow {
            address: checked(address)?,
        },
    })
}

fn new_password(address: &str, source: &PasswordSource) -> Result<Password, CliError> {
    let password = if source.password_stdin {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(CliError::failed)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        line
    } else {
        let ask = |prompt: String| {
            rpassword::prompt_password(prompt).map_err(|error| {
                CliError::Failed(format!(
                    "could not ask for a password ({error}); use --password-stdin"
                ))
            })
        };
        let first = ask(format!("New password for {address}: "))?;
        if first != ask("Again: ".into())? {
            return Err(CliError::Failed("the two passwords differ".into()));
        }
        first
    };
    if password.is_empty() {
        return Err(CliError::Usage("the password is empty".into()));
    }
    Ok(Password::new(password))
}

fn confirm(question: &str) -> Done {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(
            "say --yes to do this without a question".into(),
        ));
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(CliError::failed)?;
    if line.trim().eq_ignore_ascii_case("y") || line.trim().eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(CliError::Failed("nothing was done".into()))
    }
}

/// Asks the running server, or does it here where none runs.
fn operate(path: &Path, config: &Config, request: Request) -> Result<Reply, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::failed)?;
    runtime.block_on(async {
        match connect(config).await? {
            Some(stream) => {
                // The server gives up first and says why.
                let wait = Duration::from_secs(config.limits.admin_timeout_secs + 5);
                let tell = progress::tell();
                let answer = socket::ask(stream, &request, wait, &tell).await;
                progress::done();
                Ok(answer?)
            }
            None => directly(path, config, request).await,
        }
    })
}

/// A connection to the running server. None: none runs.
pub(super) async fn connect(config: &Config) -> Result<Option<UnixStream>, CliError> {
    let connected = socket::connect(&config.data_dir).await;
    connected.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; run this as the user that the server runs as"
            }
            _ => "",
        };
        let socket = socket::path(&config.data_dir);
        CliError::Failed(format!("{}: {error}{advice}", socket.display()))
    })
}

/// A file that one user made in another's store would lock the server out of it.
pub(super) fn owned(dir: &Path) -> Result<(), CliError> {
    let Ok(found) = std::fs::metadata(dir) else {
        return Ok(());
    };
    let (owner, me) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "{} belongs to user {owner} and this is user {me}: run it as the user that the server \
         runs as",
        dir.display()
    )))
}

async fn directly(path: &Path, config: &Config, request: Request) -> Result<Reply, CliError> {
    let (store, telemetry) = open_store(path, config, request.begins_a_store())?;
    let operations = operations(config, &store, telemetry);
    let result = operations.run(request, &progress::tell()).await;
    progress::done();
    store.close().await;
    Ok(result?)
}

/// What can be done with a store that this process has opened.
pub(super) fn operations(config: &Config, store: &Store, telemetry: Arc<Telemetry>) -> Operations {
    let auth = Auth::new(store.clone(), &config.auth, telemetry.clone());
    let live = Arc::new(arc_swap::ArcSwap::from_pointee(config.clone()));
    let devices = Devices::new(store.clone(), live, None, Lookups::new());
    let bounds = Bounds::of(config);
    Operations::new(store.clone(), auth, devices, telemetry, None, bounds)
}

/// Opens the store where no server runs.
pub(super) fn open_store(
    path: &Path,
    config: &Config,
    begins: bool,
) -> Result<(Store, Arc<Telemetry>), CliError> {
    owned(&config.data_dir)?;
    if !begins && !Store::is_at(&config.data_dir) {
        return Err(CliError::Failed(format!(
            "there is no store in {}: look at data_dir in {}; a new one begins with \
             `posthorn domain add DOMAIN`",
            config.data_dir.display(),
            path.display()
        )));
    }
    let telemetry = Telemetry::new().map_err(CliError::failed)?;
    let options = Options {
        dir: config.data_dir.clone(),
        config: config.store.clone(),
        subaddress_separator: config.smtp.subaddress_separator,
    };
    let store = Store::open(options, telemetry.clone()).map_err(|error| {
        CliError::Failed(match &error {
            OpenError::Locked { .. } => {
                format!("{error}, and it does not answer; it may be starting or stopping")
            }
            _ => error.to_string(),
        })
    })?;
    Ok((store, telemetry))
}

pub(super) fn print(reply: &Reply, json: bool) -> Done {
    let text = if json {
        serde_json::to_string(reply).map_err(CliError::failed)?
    } else {
        show::reply(reply)
    };
    write_line(text.trim_end())
}
