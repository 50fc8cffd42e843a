//! The images of a store: names, reading, which one is the newest good one.
//!
//! May import: `format`, the disk, types.
//!
//! `image/image-<group>` and, of the newest, `image/image-<group>.copy`: the log before an image
//! goes, so one bad block must not be the end of it. Unfinished ones end in `.tmp`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{BLOCK_HEADER, BadImage, BlockHeader, HEADER, Header, Reader};
use crate::store::disk::{Disk, DiskFile};

const DIR: &str = "image";
const NAME: &str = "image-";
pub(super) const COPY: &str = ".copy";
pub(super) const UNFINISHED: &str = ".tmp";

#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum ImageError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {source}")]
    Bad { path: PathBuf, source: BadImage },
}

impl ImageError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn bad(path: &Path) -> impl FnOnce(BadImage) -> Self + '_ {
        move |source| Self::Bad {
            path: path.to_owned(),
            source,
        }
    }
}

/// Where the images of a store are.
pub(in crate::store) fn directory(data: &Path) -> PathBuf {
    data.join(DIR)
}

/// Name of the image of a group.
pub(in crate::store) fn name(seq: u64) -> String {
    format!("{NAME}{seq:020}")
}

/// The number of the group whose state the file holds, and whether it is a copy.
pub(in crate::store) fn number_of(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(NAME)?;
    let (digits, copy) = match rest.strip_suffix(COPY) {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    Some((plain.then(|| digits.parse().ok()).flatten()?, copy))
}

/// A file that claims to be an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Candidate {
    pub path: PathBuf,
    pub seq: u64,
    pub copy: bool,
    pub len: u64,
}

/// All of them, the newest first, and of one group the first before its copy.
pub(in crate::store) fn list(disk: &dyn Disk, data: &Path) -> Result<Vec<Candidate>, ImageError> {
    let dir = directory(data);
    let listed = match disk.list(&dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::io(&dir)(error)),
    };
    let mut found: Vec<_> = listed
        .iter()
        .filter_map(|file| {
            let (seq, copy) = number_of(file.name.to_str()?)?;
            Some(Candidate {
                path: dir.join(&file.name),
                seq,
                copy,
                len: file.len,
            })
        })
        .collect();
    found.sort_by_key(|c| (std::cmp::Reverse(c.seq), c.copy));
    Ok(found)
}

type EachBlock<'a> = &'a mut dyn FnMut(&mut Reader, &BlockHeader, &[u8]) -> Result<(), BadImage>;

/// An image that is read.
pub(in crate::store) struct Image {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub header: Header,
}

impl Image {
    /// Reads the header only.
    pub(in crate::store) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ImageError> {
        let file = disk.open(path).map_err(ImageError::io(path))?;
        let mut bytes = [0; HEADER];
        read(&*file, path, &mut bytes, 0)?;
        let header = Header::decode(&bytes).map_err(ImageError::bad(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header,
        })
    }

    /// Every checksum, without unpacking anything. Gives the number of bytes read.
    pub(in crate::store) fn check(&self) -> Result<u64, ImageError> {
        self.blocks(&mut |_, _, _| Ok(()))
    }

    /// All records, in order of their keys; `each` gets false from whoever wants no more.
    pub(in crate::store) fn read(
        &self,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<u64, ImageError> {
        self.blocks(&mut |reader, block, body| reader.unpack(block, body, each))
    }

    fn blocks(&self, each: EachBlock<'_>) -> Result<u64, ImageError> {
        let mut reader = Reader::new(self.header);
        let mut at = HEADER as u64;
        let mut body = Vec::new();
        loop {
            let mut start = [0; BLOCK_HEADER];
            read(&*self.file, &self.path, &mut start, at)?;
            let bad = || ImageError::bad(&self.path);
            let block = BlockHeader::decode(&start).map_err(bad())?;
            body.resize(block.body_len(), 0);
            at += BLOCK_HEADER as u64;
            read(&*self.file, &self.path, &mut body, at)?;
            at += body.len() as u64;
            if reader.check(&block, &body).map_err(bad())? {
                return Ok(at);
            }
            each(&mut reader, &block, &body).map_err(bad())?;
        }
    }
}

fn read(file: &dyn DiskFile, path: &Path, into: &mut [u8], at: u64) -> Result<(), ImageError> {
    match file.read_exact_at(into, at) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(ImageError::bad(path)(BadImage::Short))
        }
        done => done.map_err(ImageError::io(path)),
    }
}

/// The newest image of this store that is whole. What is wrong with others is told.
pub(in crate::store) fn newest(
    disk: &dyn Disk,
    data: &Path,
    store_id: [u8; 16],
) -> Result<Option<Image>, ImageError> {
    for candidate in list(disk, data)? {
        let opened = Image::open(disk, &candidate.path).and_then(|image| {
            image.check()?;
            Ok(image)
        });
        match opened {
            Ok(image) if image.header.store_id == store_id => return Ok(Some(image)),
            Ok(_) => tracing::error!(
                path = %candidate.path.display(),
                "a state image is of another store"
            ),
            Err(
                error @ ImageError::Bad {
                    source: BadImage::Newer(_),
                    ..
                },
            ) => return Err(error),
            Err(error) => tracing::error!(%error, "a state image can't be used"),
        }
    }
    Ok(None)
}

/// Header of the newest image of this store by its name and header alone.
pub(in crate::store) fn newest_header(
    disk: &dyn Disk,
    data: &Path,
    store_id: Option<[u8; 16]>,
) -> Result<Option<Header>, ImageError> {
    for candidate in list(disk, data)? {
        match Image::open(disk, &candidate.path) {
            Ok(image) if store_id.is_none_or(|id| id == image.header.store_id) => {
                return Ok(Some(image.header));
            }
            Ok(_) => {}
            Err(
                error @ ImageError::Bad {
                    source: BadImage::Newer(_),
                    ..
                },
            ) => return Err(error),
            Err(error) => tracing::warn!(%error, "a state image can't be used"),
        }
    }
    Ok(None)
}
