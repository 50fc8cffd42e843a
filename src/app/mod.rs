//! Builds the server from the configuration; reload and shutdown.
//!
//! May import everything but cli. Start: lock and recover the store, bind every port, then say
//! ready. Stop: take no more connections, let what is under way end within the grace time, then
//! close the store. A second signal ends the process at once, which is as safe as a crash, and
//! a crash is always safe.

pub mod demo;

mod demo_banner;
mod demo_phone;
mod devices;
mod log;
mod reload;
mod services;
mod signals;
mod spare;
mod upkeep;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;

use crate::admin::{Operations, socket};
use crate::auth::Auth;
use crate::config::{Config, ConfigError};
use crate::store::{OpenError, Options, Store};
use crate::telemetry::{MetricError, Telemetry};
use crate::tls::{Certificates, TlsError};
use crate::transfer::serve::Bounds;
use services::Services;
use signals::{Signals, Told};

/// Why the server did not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Log(String),
    #[error("{key}: can't listen on {addr}: {source}{}", advice(source))]
    Listen {
        key: String,
        addr: SocketAddr,
        source: std::io::Error,
    },
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("metrics: {0}")]
    Metrics(#[from] MetricError),
    /// Setting up the demo.
    #[error("demo: {0}")]
    Demo(String),
}

impl AppError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "; is another mail server running?",
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// What all parts of a running server share.
#[derive(Clone)]
struct Core {
    /// As it was at the start.
    config: Arc<Config>,
    /// As it is now, after reloads.
    live: Arc<ArcSwap<Config>>,
    store: Store,
    auth: Auth,
    certificates: Arc<Certificates>,
    telemetry: Arc<Telemetry>,
}

/// Steps that only the demo has.
trait Extra {
    /// The store is open, nothing listens.
    async fn prepare(&mut self, _core: &Core) -> Result<(), AppError> {
        Ok(())
    }
    /// The process ends at once.
    fn abandon(&mut self) {}
    /// All ports are open; ready comes next.
    async fn started(&mut self, _core: &Core) -> Result<(), AppError> {
        Ok(())
    }
}

/// `posthorn serve` has none.
struct Nothing;
impl Extra for Nothing {}

/// `posthorn serve`: runs until it is told to stop.
pub fn serve(path: &Path) -> Result<(), AppError> {
    let (config, warnings) = Config::load(path)?;
    log::start(&config.log).map_err(|error| AppError::Log(format!("log.level: {error}")))?;
    for warning in warnings {
        tracing::warn!("{}", warning.render(&path.display().to_string()));
    }
    raise_file_limit();
    check_file_limit(&config);
    run(Some(path.to_owned()), move || Ok((config, Nothing)))
}

/// `begin` is called when signals are listened to.
fn run<E: Extra>(
    file: Option<PathBuf>,
    begin: impl FnOnce() -> Result<(Config, E), AppError>,
) -> Result<(), AppError> {
    raise_file_limit();
    spare::keep_little();
    // Also what the index makes is nobody else's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let signals = Signals::new().map_err(AppError::io("signals"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("posthorn")
        .max_blocking_threads(64)
        // Twice the usual: searches may be nested deeply, and a debug build has large frames.
        .thread_stack_size(4 * 1024 * 1024)
        .build()
        .map_err(AppError::io("starting the runtime"))?;
    let (result, extra) = runtime.block_on(async {
        let started = Instant::now();
        let (config, mut extra) = begin()?;
        let result = live(started, signals, config, file, &mut extra).await;
        Ok::<_, AppError>((result, extra))
    })?;
    // What did not end within the grace time is dropped here; the store is closed already, or is
    // still being opened.
    runtime.shutdown_timeout(Duration::from_millis(500));
    drop(extra);
    result
}

async fn live(
    started: Instant,
    mut signals: Signals,
    mut config: Config,
    file: Option<PathBuf>,
    extra: &mut impl Extra,
) -> Result<(), AppError> {
    let grace = Duration::from_secs(config.limits.shutdown_grace_secs);
    // Before recovery, so that a forgotten server is noticed in a second and not in a minute.
    for (key, addr) in config.listeners() {
        if let Err(source) = std::net::TcpListener::bind(addr) {
            // A second server on the same store is told of the first one.
            let held = Store::held(&config.data_dir).map(AppError::Store);
            return Err(held.unwrap_or(AppError::Listen {
                key: key.to_owned(),
                addr,
                source,
            }));
        }
    }
    let telemetry = Telemetry::new()?;
    // Told to stop while it recovers: that is as safe as a crash.
    let store = tokio::select! {
        store = patiently(open(&config, telemetry.clone())) => store?,
        () = second(&mut signals) => return Ok(()),
    };
    let outcome = async {
        let certificates = Certificates::load(&config.tls, &config.hostname, &config.data_dir)?;
        let core = Core {
            auth: Auth::new(store.clone(), &config.auth, telemetry.clone()),
            certificates: Arc::new(certificates),
            config: Arc::new(config.clone()),
            live: Arc::new(ArcSwap::from_pointee(config.clone())),
            store: store.clone(),
            telemetry,
        };
        tokio::select! {
            prepared = patiently(extra.prepare(&core)) => prepared?,
            () = second(&mut signals) => return Ok(()),
        }
        let services = Services::start(&core).await?;
        let operations = Operations::new(
            core.store.clone(),
            core.auth.clone(),
            services.devices(),
            core.telemetry.clone(),
            Some(started),
            Bounds::of(&config),
        );
        let limits = socket::Limits {
            connections: config.limits.admin_connections,
            timeout: Duration::from_secs(config.limits.admin_timeout_secs),
        };
        let admin = socket::serve(&config.data_dir, operations, limits, services.stop_token())
            .map_err(AppError::io(
                socket::path(&config.data_dir).display().to_string(),
            ))?;
        tokio::spawn(spare::give_back(services.stop_token()));
        let begun = extra.started(&core).await;
        if begun.is_ok() {
            services.set_ready();
            notify(&[NotifyState::Ready]);
            tracing::info!(
                hostname = config.hostname,
                "ready after {} ms",
                started.elapsed().as_millis()
            );
            until_stopped(&mut signals, file.as_deref(), &mut config, &core).await;
        }
        notify(&[NotifyState::Stopping]);
        tracing::info!("stopping");
        tokio::select! {
            () = patiently(services.stop(grace)) => {}
            () = second(&mut signals) => {
                tracing::warn!("told twice to stop: stopping at once");
                extra.abandon();
                std::process::exit(1);
            }
        }
        let _ = admin.await;
        begun
    }
    .await;
    patiently(store.close()).await;
    outcome
}

async fn until_stopped(
    signals: &mut Signals,
    file: Option<&Path>,
    config: &mut Config,
    core: &Core,
) {
    while signals.next().await == Told::Reload {
        // The demo: its terminal was closed.
        let Some(file) = file else { return };
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        reload::reload(file, config, &core.auth, &core.certificates);
        core.live.store(Arc::new(config.clone()));
        notify(&[NotifyState::Ready]);
    }
}

async fn second(signals: &mut Signals) {
    while signals.next().await != Told::Stop {}
}

async fn open(config: &Config, telemetry: Arc<Telemetry>) -> Result<Store, AppError> {
    let options = Options {
        dir: config.data_dir.clone(),
        config: config.store.clone(),
        subaddress_separator: config.smtp.subaddress_separator,
    };
    tokio::task::spawn_blocking(move || Store::open(options, telemetry))
        .await
        .map_err(|error| AppError::Io {
            what: "opening the store".into(),
            source: std::io::Error::other(error),
        })?
        .map_err(AppError::Store)
}

/// How often the service manager hears that something takes its time, and for how long it may.
const STILL_HERE: Duration = Duration::from_secs(10);
const MORE_TIME_MICROS: u32 = 60_000_000;

/// Recovery of a large store takes longer than a service manager waits, and so may stopping.
async fn patiently<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        // Before the work, which may be done sooner than a timer fires.
        notify(&[NotifyState::ExtendTimeoutUsec(MORE_TIME_MICROS)]);
        if let Ok(done) = tokio::time::timeout(STILL_HERE, &mut work).await {
            return done;
        }
    }
}

/// Tells the service manager, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "sd_notify");
    }
}

/// Files that the store and everything else but connections keep open, roughly.
const OTHER_FILES: u64 = 512;

/// A connection is a file; the usual soft limit is 1024.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "could not raise the limit on open files");
    }
}

fn check_file_limit(config: &Config) {
    let connections = [
        // Other servers and users have each as many.
        config.smtp.max_connections,
        config.smtp.max_connections,
        config.imap.max_connections,
        config.http.max_connections,
    ];
    let wanted = connections.iter().sum::<usize>() as u64 + OTHER_FILES;
    if let Some(files) = getrlimit(Resource::Nofile).current
        && files < wanted
    {
        tracing::warn!(
            files,
            wanted,
            "fewer files may be open than max_connections of all sections allow: raise LimitNOFILE, \
             or allow fewer connections"
        );
    }
}
