//! argon2id, and SCRAM's PBKDF2, on threads of their own, behind a bounded queue.
//!
//! May import: store, types. Hashing takes 20 ms and 19 MiB: on the runtime's threads it would stop
//! mail, and without a bound a guesser could eat the machine. A thread keeps its memory only
//! while work waits, so that a server at rest is small.

use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
// Of tokio, since it grows with what waits: std's takes room for a full queue at once.
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::keys;
use crate::store::ScramKeys;
use crate::types::Secret;

/// Longest password, so that a stranger can't make us hash megabytes.
pub(super) const MAX_PASSWORD: usize = 1024;
const SALT_LEN: usize = 16;
/// Where the machine says how many: each may take `argon2_memory_kib`.
const MOST_THREADS: usize = 8;
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
const OUTPUT_LEN: usize = 32;

/// What to do, and where the answer goes.
enum Job {
    Verify {
        password: Secret,
        hash: String,
        answer: oneshot::Sender<bool>,
    },
    Hash {
        password: Secret,
        params: Params,
        answer: oneshot::Sender<Option<String>>,
    },
    Keys {
        password: Secret,
        salt: [u8; SALT_LEN],
        iterations: u32,
        answer: oneshot::Sender<Option<ScramKeys>>,
    },
}

impl Job {
    /// The asker went away: its connection is closed.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Verify { answer, .. } => answer.is_closed(),
            Self::Hash { answer, .. } => answer.is_closed(),
            Self::Keys { answer, .. } => answer.is_closed(),
        }
    }
}

/// No place in the queue, or no thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

/// The threads. They end when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Hasher {
    queue: Sender<Job>,
}

impl Hasher {
    pub(super) fn start(threads: usize, queue: usize) -> Self {
        let (sender, receiver) = channel(queue.max(1));
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS)),
            threads => threads,
        };
        for n in 0..threads {
            let receiver = receiver.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("hash-{n}"))
                .stack_size(256 * 1024)
                .spawn(move || {
                    // Of this thread alone: where there is too much to do, mail goes first.
                    #[cfg(target_os = "linux")]
                    let _ = rustix::process::setpriority_process(None, NICE);
                    work(&receiver);
                });
            if let Err(error) = spawned {
                tracing::error!(%error, "could not start a thread for password hashing");
            }
        }
        Self { queue: sender }
    }

    pub(super) async fn verify(&self, password: Secret, hash: String) -> Result<bool, Busy> {
        let (answer, wait) = oneshot::channel();
        self.send(Job::Verify {
            password,
            hash,
            answer,
        })?;
        wait.await.map_err(|_| Busy)
    }

    pub(super) async fn hash(&self, password: Secret, params: Params) -> Result<String, Busy> {
        let (answer, wait) = oneshot::channel();
        self.send(Job::Hash {
            password,
            params,
            answer,
        })?;
        wait.await.ok().flatten().ok_or(Busy)
    }

    /// SCRAM's keys of a password.
    pub(super) async fn keys(
        &self,
        password: Secret,
        salt: [u8; SALT_LEN],
        iterations: u32,
    ) -> Result<ScramKeys, Busy> {
        let (answer, wait) = oneshot::channel();
        self.send(Job::Keys {
            password,
            salt,
            iterations,
            answer,
        })?;
        wait.await.ok().flatten().ok_or(Busy)
    }

    fn send(&self, job: Job) -> Result<(), Busy> {
        self.queue.try_send(job).map_err(|_| Busy)
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut memory: Vec<Block> = Vec::new();
    loop {
        let waiting = queue.try_lock().map(|mut queue| queue.try_recv());
        let job = match waiting {
            Some(Ok(job)) => job,
            Some(Err(TryRecvError::Disconnected)) => return,
            Some(Err(TryRecvError::Empty)) | None => {
                memory = Vec::new();
                match queue.lock().blocking_recv() {
                    Some(job) => job,
                    None => return,
                }
            }
        };
        if job.is_abandoned() {
            continue;
        }
        match job {
            Job::Verify {
                password,
                hash,
                answer,
            } => {
                let right = verify(&password, &hash, &mut memory);
                let _ = answer.send(right);
            }
            Job::Hash {
                password,
                params,
                answer,
            } => {
                let _ = answer.send(hash(&password, params, &mut memory));
            }
            Job::Keys {
                password,
                salt,
                iterations,
                answer,
            } => {
                let _ = answer.send(keys::derive(&password, salt, iterations));
            }
        }
    }
}

fn verify(password: &Secret, stored: &str, memory: &mut Vec<Block>) -> bool {
    let Ok(stored) = PasswordHash::new(stored) else {
        return false;
    };
    let (Ok(params), Ok(algorithm), Some(salt), Some(expected)) = (
        Params::try_from(&stored),
        Algorithm::try_from(stored.algorithm.as_str()),
        stored.salt,
        stored.hash,
    ) else {
        return false;
    };
    let version = stored
        .version
        .map_or(Ok(Version::default()), Version::try_from);
    let Ok(version) = version else { return false };
    let mut output = [0u8; Output::MAX_LENGTH];
    let Some(output) = output.get_mut(..expected.len()) else {
        return false;
    };
    fill(
        Argon2::new(algorithm, version, params),
        password,
        &salt,
        output,
        memory,
    ) && aws_lc_rs::constant_time::verify_slices_are_equal(output, expected.as_ref()).is_ok()
}

fn hash(password: &Secret, params: Params, memory: &mut Vec<Block>) -> Option<String> {
    let salt = Salt::new(&random::<SALT_LEN>()?).ok()?;
    let mut output = [0u8; OUTPUT_LEN];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    fill(argon2, password, &salt, &mut output, memory)
        .then(|| phc(&params, salt, &output))
        .flatten()
}

fn fill(
    argon2: Argon2<'_>,
    password: &Secret,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Vec<Block>,
) -> bool {
    if password.expose().len() > MAX_PASSWORD {
        return false;
    }
    let blocks = argon2.params().block_count();
    // Large, so it goes back to the system as soon as it is dropped (`app::spare`).
    if memory.len() < blocks {
        memory.resize(blocks, Block::new());
    }
    argon2
        .hash_password_into_with_memory(
            password.expose(),
            salt,
            output,
            memory.get_mut(..blocks).unwrap_or_default(),
        )
        .is_ok()
}

fn phc(params: &Params, salt: Salt, output: &[u8]) -> Option<String> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).ok()?,
        salt: Some(salt),
        hash: Some(Output::new(output).ok()?),
    };
    Some(hash.to_string())
}

/// A hash that no password fits, with the cost of the real ones: what a login to an account
/// that does not exist is compared with.
pub(super) fn decoy(params: &Params) -> Option<String> {
    let salt = Salt::new(&random::<SALT_LEN>()?).ok()?;
    phc(params, salt, &random::<OUTPUT_LEN>()?)
}

pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Params {
        Params::new(64, 1, 1, None).unwrap()
    }

    #[test]
    fn a_hash_verifies_its_own_password_only() {
        let mut memory = Vec::new();
        let stored = hash(&Secret::new("right"), cheap(), &mut memory).unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
            "{stored}"
        );
        assert!(verify(&Secret::new("right"), &stored, &mut memory));
        assert!(!verify(&Secret::new("wrong"), &stored, &mut memory));
        let again = hash(&Secret::new("right"), cheap(), &mut memory).unwrap();
        assert_ne!(stored, again, "salted");
    }

    #[test]
    fn the_parameters_in_the_hash_count_not_the_buffer_left_by_another() {
        let mut memory = Vec::new();
        let large = Params::new(256, 1, 2, None).unwrap();
        let small = hash(&Secret::new("a"), cheap(), &mut memory).unwrap();
        let large = hash(&Secret::new("b"), large, &mut memory).unwrap();
        assert!(verify(&Secret::new("a"), &small, &mut memory));
        assert!(verify(&Secret::new("b"), &large, &mut memory));
    }

    #[test]
    fn agrees_with_the_crate_s_own_verifier() {
        use argon2::PasswordVerifier;
        let stored = hash(&Secret::new("right"), cheap(), &mut Vec::new()).unwrap();
        let parsed = PasswordHash::new(&stored).unwrap();
        Argon2::default()
            .verify_password(b"right", &parsed)
            .unwrap();
    }

    #[test]
    fn nonsense_is_wrong_never_a_panic() {
        for stored in [
            "",
            "$",
            "$argon2id$v=19$m=64,t=1,p=1$c2FsdA",
            "plain",
            "$argon2id$v=99$",
        ] {
            assert!(
                !verify(&Secret::new("x"), stored, &mut Vec::new()),
                "{stored}"
            );
        }
        let decoy = decoy(&cheap()).unwrap();
        assert!(!verify(&Secret::new(""), &decoy, &mut Vec::new()));
        let long = Secret::new(vec![b'a'; MAX_PASSWORD + 1]);
        assert_eq!(hash(&long, cheap(), &mut Vec::new()), None);
    }

    #[tokio::test]
    async fn a_full_queue_says_busy() {
        let hasher = Hasher {
            queue: channel(1).0,
        };
        // No thread at all: the receiver is gone.
        assert_eq!(
            hasher.verify(Secret::new("x"), String::new()).await,
            Err(Busy)
        );
        let (queue, _receiver) = channel(1);
        let hasher = Hasher { queue };
        let first = hasher.clone();
        let waiting =
            tokio::spawn(async move { first.verify(Secret::new("x"), String::new()).await });
        tokio::task::yield_now().await;
        assert_eq!(
            hasher.verify(Secret::new("x"), String::new()).await,
            Err(Busy)
        );
        waiting.abort();
    }
}
