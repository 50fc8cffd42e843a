//! One mboxrd file for each mailbox.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use jiff::Timestamp;

use super::Writing;
use crate::transfer::frames::MessageHead;
use crate::transfer::maildir::folders;
use crate::transfer::mbox;
use crate::transfer::report::Progress;

pub(super) struct File(BufWriter<fs::File>);

impl File {
    pub(super) fn new(root: &Path, mailbox: &str) -> io::Result<Self> {
        let mut path = root.to_owned();
        path.extend(folders::path(mailbox));
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".mbox");
        let path = path.with_file_name(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(Self(BufWriter::new(fs::File::create_new(path)?)))
    }
}

/// As asctime has it, in UTC (RFC 4155).
fn asctime(millis: i64) -> String {
    let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

impl Writing for File {
    fn message(&mut self, head: &MessageHead, body: &[u8]) -> io::Result<()> {
        let mut out = Vec::with_capacity(body.len() + 128);
        mbox::write(body, &asctime(head.date), &mut out);
        self.0.write_all(&out)
    }

    fn end(mut self: Box<Self>, _: &Progress) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::asctime;

    #[test]
    fn dates_are_those_of_asctime() {
        assert_eq!(asctime(7_000), "Thu Jan  1 00:00:07 1970");
    }
}
