//! What of a store belongs to a backup: one state image, the log up to its place, and the files
//! of large bodies that it names.
//!
//! May import: the parent, the log's and the images' files.

use std::collections::BTreeSet;
use std::path::Path;

use super::BackupError;
use super::manifest::Kind;
use crate::store::disk::Disk;
use crate::store::image::files::{self as images, Image};
use crate::store::image::format::Header;
use crate::store::keys::{self, BlobRecord};
use crate::store::log;
use crate::store::versions;

/// A file that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub name: String,
    pub kind: Kind,
    /// So much of it.
    pub len: u64,
    /// It does not change any more.
    pub sealed: bool,
}

pub(super) struct Plan {
    pub header: Header,
    pub files: Vec<Planned>,
    pub forms: Vec<(String, u32)>,
    /// Bodies that the image names, with files that the store itself does not have.
    pub missing: u64,
}

impl Plan {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

/// Somebody holds the files of `data` since the image of `group` was taken.
pub(super) fn plan(disk: &dyn Disk, data: &Path, group: u64) -> Result<Plan, BackupError> {
    let name = images::name(group);
    let path = images::directory(data).join(&name);
    let image = Image::open(disk, &path)?;
    let header = image.header;
    if header.seq != group {
        return Err(BackupError::bad(&path, "it is of another group"));
    }
    let mut large = BTreeSet::new();
    let len = image.read(&mut |key, value| {
        if key.first() == Some(&b'b')
            && let Ok(record) = keys::decode::<BlobRecord>(value)
            && log::has_own_file(&record.place)
        {
            large.insert(record.place.segment);
        }
    })?;
    let mut files = vec![Planned {
        name: format!("image/{name}"),
        kind: Kind::Image(group),
        len,
        sealed: true,
    }];
    let dir = log::directory(data);
    let at = header.at;
    for file in log::files_of(disk, data).map_err(BackupError::io(&dir))? {
        let newest = !file.large && file.number == at.segment;
        let wanted = match file.large {
            // Others are of messages that are not there yet, or not any more.
            true => large.remove(&file.number),
            false => file.number <= at.segment,
        };
        if !wanted {
            continue;
        }
        if newest && file.len < at.offset {
            return Err(BackupError::bad(
                &dir.join(&file.name),
                "it is shorter than the state image says",
            ));
        }
        files.push(Planned {
            name: format!("log/{}", file.name),
            kind: match file.large {
                true => Kind::Large(file.number),
                false => Kind::Segment(file.number),
            },
            len: match newest {
                true => at.offset,
                false => file.len,
            },
            sealed: !newest,
        });
    }
    if !files.iter().any(|f| f.kind == Kind::Segment(at.segment)) {
        return Err(BackupError::bad(
            &dir,
            "the segment that the state image was taken in is not there",
        ));
    }
    Ok(Plan {
        header,
        files,
        forms: versions::forms(disk, data).map_err(BackupError::io(data))?,
        missing: large.len() as u64,
    })
}
