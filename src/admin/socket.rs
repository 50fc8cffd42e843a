//! The admin socket: `DATA/admin.sock`, for the server's own user only.
//!
//! May import: nothing of ours but the operations. Bounded: connections, the length of a
//! request, the time that one may take.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::operations::Operations;
use super::protocol::{Answer, Failure, FailureKind, Reply, Request};

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

/// Where the socket of a data directory is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
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
    let bound = private.path().join("s");
    let listener = UnixListener::bind(&bound)?;
    std::fs::set_permissions(&bound, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&bound, &path)?;
    drop(private);
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
    let places = Arc::new(Semaphore::new(limits.connections.max(1)));
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            place = places.clone().acquire_owned() => place,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let operations = operations.clone();
                tokio::spawn(async move {
                    let _ = timeout(limits.timeout, answer(stream, &operations)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, operations: &Operations) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read.take(MAX_REQUEST));
    let mut line = zeroize::Zeroizing::new(String::new());
    if lines.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    let answer = if !line.ends_with('\n') {
        Answer::Error(Failure::new(FailureKind::Usage, "the request is too long"))
    } else {
        match serde_json::from_str::<Request>(&line) {
            Ok(request) => match operations.run(request).await {
                Ok(reply) => Answer::Ok(reply),
                Err(failure) => Answer::Error(failure),
            },
            Err(error) => Answer::Error(Failure::new(
                FailureKind::Usage,
                format!("the running server does not know this request: {error}"),
            )),
        }
    };
    let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    write.shutdown().await
}

/// Connects to the server of a data directory. None: no server runs there.
pub async fn connect(data_dir: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(path(data_dir)).await {
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

/// Asks a running server.
pub async fn ask(
    mut stream: UnixStream,
    request: &Request,
    wait: Duration,
) -> Result<Reply, Failure> {
    let failed = |reason: String| {
        Failure::new(
            FailureKind::Failed,
            format!("the running server did not answer: {reason}"),
        )
    };
    let exchange = async {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut text = Vec::new();
        (&mut stream)
            .take(MAX_ANSWER)
            .read_to_end(&mut text)
            .await?;
        Ok::<_, io::Error>(text)
    };
    let text = timeout(wait, exchange)
        .await
        .map_err(|_| failed(format!("nothing in {} s", wait.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    match serde_json::from_slice(&text) {
        Ok(Answer::Ok(reply)) => Ok(reply),
        Ok(Answer::Error(failure)) => Err(failure),
        Err(error) => Err(failed(error.to_string())),
    }
}
