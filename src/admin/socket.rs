//! The admin socket: `DATA/admin.sock`, for the server's own user only.
//!
//! May import: nothing of ours but the operations, and what they hold. Bounded: connections, those that say nothing,
//! the length of a request, the time that one may take.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::operations::{Operations, Tell};
use super::protocol::{Answer, Failure, FailureKind, Reply, Request};
use crate::store::backup::Hold;

/// A request is a few hundred bytes; a list of targets may be longer.
const MAX_REQUEST: u64 = 64 * 1024;
/// The longest list that is read: about half a million accounts.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Bounds of the server's side.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub timeout: Duration,
}

const NAME: &str = "admin.sock";

/// Where the socket of a data directory is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Longest path of a Unix socket (unix(7)).
const MAX_PATH: usize = 107;

/// A path of `dir/name` that is short enough; good as long as the directory stays open.
fn reachable(dir: &Path, name: &str) -> io::Result<(PathBuf, Option<File>)> {
    let path = dir.join(name);
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((path, None));
    }
    let opened = File::open(dir)?;
    let directory = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    if !directory.exists() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            format!("longer than {MAX_PATH} bytes, choose a shorter data_dir"),
        ));
    }
    Ok((directory.join(name), Some(opened)))
}

/// Listens until `stop`. The caller holds the store's lock, so a socket that is there already
/// belongs to a process that is gone.
pub fn serve(
    data_dir: &Path,
    operations: Operations,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let path = path(data_dir);
    // Bound where only we can reach it, so that nobody connects before the mode is set.
    let private = tempfile::Builder::new()
        .prefix(".admin-")
        .tempdir_in(data_dir)?;
    let (bound, opened) = reachable(private.path(), "s")?;
    let listener = UnixListener::bind(&bound)?;
    std::fs::set_permissions(&bound, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&bound, &path)?;
    drop((opened, private));
    Ok(tokio::spawn(async move {
        accept(&listener, operations, limits, stop).await;
        let _ = std::fs::remove_file(&path);
    }))
}

async fn accept(
    listener: &UnixListener,
    operations: Operations,
    limits: Limits,
    stop: CancellationToken,
) {
    let most = limits.connections.max(1);
    let places = Arc::new(Semaphore::new(most));
    let mut silent = Silent::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (operations, places) = (operations.clone(), places.clone());
                let asking = silent.admit(most);
                tokio::spawn(async move {
                    serve_one(stream, operations, asking, places, limits.timeout).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Connections that have not asked anything yet, oldest first. They have no place among those
/// that are served, and when there are too many the oldest has to go: whoever says nothing is in
/// nobody's way.
#[derive(Default)]
struct Silent(VecDeque<Weak<Notify>>);

impl Silent {
    /// One more; it is silent until it drops what it gets, and ends when that is notified.
    fn admit(&mut self, most: usize) -> Arc<Notify> {
        self.0.retain(|other| other.strong_count() > 0);
        while self.0.len() >= most {
            if let Some(oldest) = self.0.pop_front().and_then(|oldest| oldest.upgrade()) {
                oldest.notify_one();
            }
        }
        let asking = Arc::new(Notify::new());
        self.0.push_back(Arc::downgrade(&asking));
        asking
    }
}

async fn serve_one(
    mut stream: UnixStream,
    operations: Operations,
    asking: Arc<Notify>,
    places: Arc<Semaphore>,
    patience: Duration,
) {
    let request = tokio::select! {
        request = timeout(patience, read_request(&mut stream)) => request,
        () = asking.notified() => return,
    };
    drop(asking);
    let Ok(Ok(Some(line))) = request else { return };
    // These may take long; how long they may be silent is bounded there.
    let request = serde_json::from_str::<Request>(&line);
    if let Ok(Ok(Some(transfer))) = request.map(|request| operations.transfer(&request)) {
        let Ok(_place) = places.acquire().await else {
            return;
        };
        if let Err(error) = transfer.run(stream).await {
            tracing::info!(%error, "an import or export ended early");
        }
        return;
    }
    let long = serde_json::from_str::<Request>(&line).is_ok_and(|request| request.is_long());
    let served = async {
        let place = places.acquire().await.map_err(io::Error::other)?;
        answer(&mut stream, &line, &operations, place).await
    };
    let served = match long {
        // It says all the time that it is still at it.
        true => served.await,
        false => timeout(patience, served).await.unwrap_or(Ok(())),
    };
    if let Err(error) = served {
        tracing::debug!(%error, "admin socket");
    }
}

/// A line, or as much of it as is taken; None: nothing came.
async fn read_request(stream: &mut UnixStream) -> io::Result<Option<Zeroizing<String>>> {
    let mut lines = BufReader::new(stream.take(MAX_REQUEST));
    let mut line = Zeroizing::new(String::new());
    let read = lines.read_line(&mut line).await?;
    Ok((read > 0).then_some(line))
}

async fn answer(
    stream: &mut UnixStream,
    line: &str,
    operations: &Operations,
    place: SemaphorePermit<'_>,
) -> io::Result<()> {
    let answer = if !line.ends_with('\n') {
        Answer::Error(Failure::new(FailureKind::Usage, "the request is too long"))
    } else {
        match serde_json::from_str::<Request>(line) {
            Ok(Request::StoreHold) => {
                let holding = told(
                    stream,
                    true,
                    |tell| async move { operations.hold(&tell).await },
                );
                match holding.await? {
                    Ok(hold) => return held(stream, hold, place).await,
                    Err(failure) => Answer::Error(failure),
                }
            }
            Ok(request) => match run(stream, operations, request).await? {
                Ok(reply) => Answer::Ok(reply),
                Err(failure) => Answer::Error(failure),
            },
            Err(error) => Answer::Error(Failure::new(
                FailureKind::Usage,
                format!("the running server does not know this request: {error}"),
            )),
        }
    };
    write(stream, &answer).await?;
    stream.shutdown().await
}

/// Keeps the files until the other side goes.
async fn held(stream: &mut UnixStream, hold: Hold, place: SemaphorePermit<'_>) -> io::Result<()> {
    let answer = Answer::Ok(Reply::Held { group: hold.group });
    timeout(STILL * 15, write(stream, &answer)).await??;
    // It may take hours, and others want to ask something.
    drop(place);
    let read = stream.read(&mut [0]).await;
    drop(hold);
    read.map(drop)
}

async fn write(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer).map_err(io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await
}

/// How often whoever waits hears that something is still going on.
const STILL: Duration = Duration::from_secs(2);

async fn run(
    stream: &mut UnixStream,
    operations: &Operations,
    request: Request,
) -> io::Result<Result<Reply, Failure>> {
    let long = request.is_long();
    let work = |tell: Tell| async move { operations.run(request, &tell).await };
    told(stream, long, work).await
}

/// Does it, and tells meanwhile how far it is. An error: nobody listens any more.
async fn told<T, F: Future<Output = Result<T, Failure>>>(
    stream: &mut UnixStream,
    long: bool,
    work: impl FnOnce(Tell) -> F,
) -> io::Result<Result<T, Failure>> {
    let (send, mut at) = watch::channel(String::new());
    let tell: Tell = Arc::new(move |text: &str| {
        send.send_replace(text.to_owned());
    });
    let mut work = std::pin::pin!(work(tell));
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(STILL), if long => {}
            changed = at.changed(), if long => changed.map_err(io::Error::other)?,
        }
        let text = at.borrow_and_update().clone();
        timeout(STILL * 15, write(stream, &Answer::Progress(text))).await??;
    }
}

/// Connects to the server of a data directory. None: no server runs there.
pub async fn connect(data_dir: &Path) -> io::Result<Option<UnixStream>> {
    let connected = async {
        let (path, _opened) = reachable(data_dir, NAME)?;
        UnixStream::connect(path).await
    };
    match connected.await {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks a running server for an import or export: what follows on the stream is of that.
pub async fn begin(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Asks a running server. It answers, or says how far it is, at least every `wait`.
pub async fn ask(
    mut stream: UnixStream,
    request: &Request,
    wait: Duration,
    tell: &Tell,
) -> Result<Reply, Failure> {
    ask_on(&mut stream, request, wait, tell).await
}

/// The same, and the connection stays.
pub async fn ask_on(
    stream: &mut UnixStream,
    request: &Request,
    wait: Duration,
    tell: &Tell,
) -> Result<Reply, Failure> {
    let failed = |reason: String| {
        Failure::new(
            FailureKind::Failed,
            format!("the running server did not answer: {reason}"),
        )
    };
    let silent = |_| failed(format!("nothing in {} s", wait.as_secs()));
    let sent = async {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line).await
    };
    let io = |error: io::Error| failed(error.to_string());
    timeout(wait, sent).await.map_err(silent)?.map_err(io)?;
    let mut lines = BufReader::new(stream);
    let mut text = Vec::new();
    loop {
        text.clear();
        let mut line = (&mut lines).take(MAX_ANSWER);
        let read = timeout(wait, line.read_until(b'\n', &mut text)).await;
        read.map_err(silent)?.map_err(io)?;
        match serde_json::from_slice(&text) {
            Ok(Answer::Ok(reply)) => return Ok(reply),
            Ok(Answer::Error(failure)) => return Err(failure),
            Ok(Answer::Progress(at)) => tell(&at),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}
