//! A Maildir with its folders, as Dovecot or Courier keep it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Hand, NUL, hand_over, too_large};
use crate::store::Identity;
use crate::transfer::client::{Import, Open, TransferError, identity, source};
use crate::transfer::frames::{MailboxHead, MessageHead};
use crate::transfer::lines::{Scan, ToCrlf};
use crate::transfer::maildir::{folders, lists, name};
use crate::transfer::report::Progress;
use crate::types::Flag;

/// How folders lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `.Folder.Sub` beside each other.
    #[default]
    PlusPlus,
    /// Dovecot's `LAYOUT=fs`: `Folder/Sub`.
    Fs,
}

/// Folders below folders.
const MAX_DEPTH: usize = 50;

/// One folder: a directory with `cur` and `new`.
struct Folder {
    path: PathBuf,
    /// As on disk, without the first dot.
    name: String,
    mailbox: String,
}

/// One message.
struct Entry {
    path: PathBuf,
    flags: Vec<Flag>,
    uid: Option<u32>,
    identity: Identity,
}

/// What a folder's messages need beside their names.
struct Contents {
    validity: u32,
    next: u32,
    entries: Vec<Entry>,
}

/// Brings it all over; with `only`, one mailbox.
pub async fn import<S: AsyncRead + AsyncWrite + Send + 'static>(
    import: &mut Import<S>,
    root: &Path,
    layout: Layout,
    only: Option<&str>,
) -> Result<(), TransferError> {
    let at = |error: std::io::Error| TransferError::at(root, error);
    let root = fs::canonicalize(root).map_err(at)?;
    if !is_folder(&root) {
        return Err(TransferError::at(&root, "no Maildir: it has no cur"));
    }
    let separator = match layout {
        Layout::PlusPlus => '.',
        Layout::Fs => '/',
    };
    let subscribed = subscriptions(&root, separator);
    let mut missing = subscribed.clone();
    let mut found = only.is_none();
    for folder in folders_of(&root, layout, &import.progress)? {
        missing.retain(|name| *name != folder.mailbox);
        if only.is_some_and(|only| only != folder.mailbox) {
            continue;
        }
        found = true;
        let scope: [&[u8]; 3] = [
            b"maildir",
            root.as_os_str().as_bytes(),
            folder.name.as_bytes(),
        ];
        let (path, progress) = (folder.path.clone(), import.progress.clone());
        let contents = tokio::task::spawn_blocking(move || contents(&path, &progress)).await;
        let contents = contents.map_err(|error| TransferError::Other(error.to_string()))??;
        let head = MailboxHead {
            name: folder.mailbox.clone(),
            uid_validity: contents.validity,
            uid_next: contents.next,
            subscribed: subscribed.contains(&folder.mailbox),
            source: source(&scope),
            messages: contents.entries.len() as u64,
            ..MailboxHead::default()
        };
        let Some(mut open) = import.open(head).await? else {
            continue;
        };
        let entries = unknown(contents.entries, &mut open);
        let (most, progress) = (import.max_message_bytes, import.progress.clone());
        hand_over(import, move |hand| read(&entries, most, &progress, hand)).await?;
        import.close(open).await?;
    }
    if !found {
        let name = only.unwrap_or_default();
        return Err(TransferError::at(&root, format!("no mailbox {name} in it")));
    }
    if only.is_none() {
        for name in missing {
            import.subscribe(name).await?;
        }
    }
    Ok(())
}

fn is_folder(path: &Path) -> bool {
    path.join("cur").is_dir()
}

fn unknown(entries: Vec<Entry>, open: &mut Open) -> Vec<Entry> {
    let mut entries = entries;
    entries.retain(|entry| !open.has(&entry.identity));
    entries
}

/// Names of mailboxes, in this server's form.
fn subscriptions(root: &Path, separator: char) -> Vec<String> {
    let read = |name: &str| fs::read(root.join(name)).ok();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let names = match (read("subscriptions"), read("courierimapsubscribed")) {
        (Some(dovecot), _) => lists::dovecot_subscriptions(&text(dovecot), separator),
        (None, Some(courier)) => lists::courier_subscriptions(&text(courier)),
        (None, None) => return vec!["INBOX".into()],
    };
    let mut names: Vec<String> = names
        .iter()
        .map(|name| folders::mailbox(name, separator))
        .collect();
    // It is there for everybody, and some programs don't write it down.
    names.push("INBOX".into());
    names
}

fn folders_of(
    root: &Path,
    layout: Layout,
    progress: &Progress,
) -> Result<Vec<Folder>, TransferError> {
    let mut all = Vec::new();
    let mut waiting = vec![(root.to_owned(), String::new(), 0)];
    while let Some((path, name, depth)) = waiting.pop() {
        let entries = fs::read_dir(&path).map_err(|error| TransferError::at(&path, error));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                progress.failed(path.display().to_string(), error);
                continue;
            }
        };
        for entry in entries.flatten() {
            let below = entry.path();
            if !below.is_dir() {
                continue;
            }
            let Ok(file) = entry.file_name().into_string() else {
                progress.failed(below.display().to_string(), "its name is not UTF-8");
                continue;
            };
            match (layout, file.strip_prefix('.')) {
                // One level of directories, however deep the folders are.
                (Layout::PlusPlus, Some(folder))
                    if depth == 0 && !folder.is_empty() && is_folder(&below) =>
                {
                    waiting.push((below, folder.to_owned(), 1));
                }
                (Layout::Fs, None)
                    if !matches!(&*file, "cur" | "new" | "tmp") && depth < MAX_DEPTH =>
                {
                    let name = match name.is_empty() {
                        true => file,
                        false => format!("{name}/{file}"),
                    };
                    waiting.push((below, name, depth + 1));
                }
                _ => {}
            }
        }
        if is_folder(&path) {
            let mailbox = match layout {
                Layout::PlusPlus => folders::mailbox(&name, '.'),
                Layout::Fs => folders::mailbox(&name, '/'),
            };
            all.push(Folder {
                path,
                name,
                mailbox,
            });
        }
    }
    // INBOX first, parents before children.
    all.sort_by(|a, b| (a.mailbox != "INBOX", &a.mailbox).cmp(&(b.mailbox != "INBOX", &b.mailbox)));
    Ok(all)
}

fn contents(folder: &Path, progress: &Progress) -> Result<Contents, TransferError> {
    let list = ["dovecot-uidlist", "courierimapuiddb"]
        .iter()
        .find_map(|name| lists::uid_list(&fs::read(folder.join(name)).ok()?))
        .unwrap_or_default();
    let read = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let keywords = name::dovecot_keywords(&read("dovecot-keywords"));
    let courier: HashMap<_, _> = lists::courier_keywords(&read("courierimapkeywords/:list"));
    let mut named: Vec<(PathBuf, Vec<u8>, Option<u32>)> = Vec::new();
    for part in ["cur", "new"] {
        let dir = folder.join(part);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                progress.failed(dir.display().to_string(), error);
                continue;
            }
        };
        for entry in entries {
            let entry = entry.map_err(|error| TransferError::at(&dir, error))?;
            let file: Vec<u8> = OsString::into_vec(entry.file_name());
            // Files that begin with a dot are no messages.
            if file.first() == Some(&b'.') {
                continue;
            }
            let uid = list.uids.get(name::base(&file)).copied();
            named.push((dir.join(OsString::from_vec(file.clone())), file, uid));
        }
    }
    // UIDs first: what has none yet gets one above them.
    named.sort_by_cached_key(|(_, file, uid)| {
        (uid.unwrap_or(u32::MAX), name::order(file), file.clone())
    });
    let entries = named.into_iter().map(|(path, file, uid)| {
        let base = name::base(&file);
        let mut flags = name::flags(&file, &keywords);
        for keyword in courier.get(base).into_iter().flatten() {
            let flag = Flag::parse(keyword).ok();
            flags.extend(flag.filter(|flag| !flags.contains(flag)));
        }
        Entry {
            flags,
            uid,
            identity: identity(&[base]),
            path,
        }
    });
    Ok(Contents {
        validity: list.validity,
        next: list.next.max(1),
        entries: entries.collect(),
    })
}

/// A file that another program gave other flags meanwhile has another name.
fn open(path: &Path) -> std::io::Result<fs::File> {
    match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let again = renamed(path).ok_or(error)?;
            fs::File::open(again)
        }
        opened => opened,
    }
}

fn renamed(path: &Path) -> Option<PathBuf> {
    let base = name::base(path.file_name()?.as_bytes());
    let folder = path.parent()?.parent()?;
    for part in ["cur", "new"] {
        for entry in fs::read_dir(folder.join(part)).ok()?.flatten() {
            if name::base(entry.file_name().as_bytes()) == base {
                return Some(entry.path());
            }
        }
    }
    None
}

fn read(
    entries: &[Entry],
    most: u64,
    progress: &Progress,
    hand: &Hand,
) -> Result<(), TransferError> {
    for entry in entries {
        let failed = |reason: &dyn std::fmt::Display| {
            progress.failed(entry.path.display().to_string(), reason);
        };
        let taken = open(&entry.path).and_then(|file| take(file, most));
        let (metadata, bytes) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                failed(&error);
                continue;
            }
        };
        let mut scan = Scan::default();
        scan.push(&bytes);
        let (size, nul) = (scan.size, scan.nul);
        if metadata.len() > most || size > most {
            failed(&too_large(size.max(metadata.len()), most));
            continue;
        }
        if nul {
            failed(&NUL);
            continue;
        }
        let line_ends = scan.ends().unwrap_or_else(|| {
            let shown = entry.path.display();
            progress.say(&format!(
                "{shown}: its lines end in too many ways to keep that; it is taken, and an export \
                 ends them all in LF"
            ));
            Vec::new()
        });
        let mut body = Vec::with_capacity(size as usize);
        ToCrlf::default().push(&bytes, &mut body);
        let head = MessageHead {
            size,
            uid: entry.uid,
            flags: entry.flags.clone(),
            date: metadata
                .mtime()
                .saturating_mul(1000)
                .saturating_add(metadata.mtime_nsec() / 1_000_000),
            identity: entry.identity,
            line_ends,
            ..MessageHead::default()
        };
        if !hand.over(head, body) {
            break;
        }
    }
    Ok(())
}

/// All of a file, unless it is larger than may be.
fn take(mut file: fs::File, most: u64) -> std::io::Result<(fs::Metadata, Vec<u8>)> {
    use std::io::Read;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    if metadata.len() <= most {
        bytes.reserve_exact(metadata.len() as usize + 1);
        (&mut file).take(most + 1).read_to_end(&mut bytes)?;
    }
    Ok((metadata, bytes))
}
