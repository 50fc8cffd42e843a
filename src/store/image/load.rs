//! Puts the records of an image into an index that is new.
//!
//! May import: `files`, the engine, rebuilding.

use std::sync::Arc;

use super::files::{self, Image, ImageError};
use crate::store::carry::sum_up;
use crate::store::check;
use crate::store::directory::Directory;
use crate::store::engine::{self, Applied, Batch, Index, IndexError};
use crate::store::rebuild::{ReplayError, directory};
use crate::store::shared::{Ground, Shared};

/// Records of one batch.
const BATCH: usize = 1024;
const TELL_EVERY: u64 = 1_000_000;

#[derive(Debug, thiserror::Error)]
pub(in crate::store) enum LoadError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("its records are laid out as posthorn {0} does, and this one is {1}")]
    Schema(u16, u16),
}

/// The index then stands where the image was taken. Until all is there it stands nowhere, so
/// that a crash in between does not leave half of it.
pub(in crate::store) fn load(image: &Image, index: &dyn Index) -> Result<Applied, LoadError> {
    let header = image.header;
    if header.schema != engine::SCHEMA {
        return Err(LoadError::Schema(header.schema, engine::SCHEMA));
    }
    let mut batch = Batch::new();
    let mut done: Result<u64, IndexError> = Ok(0);
    image.read(&mut |key, value| {
        let Ok(count) = &mut done else { return };
        batch.push((key.to_vec(), Some(value.to_vec())));
        *count += 1;
        if count.is_multiple_of(TELL_EVERY) {
            tracing::info!(records = *count, "reading the state image");
        }
        if batch.len() >= BATCH
            && let Err(error) = index.load(std::mem::take(&mut batch))
        {
            done = Err(error);
        }
    })?;
    let records = done?;
    index.load(batch)?;
    let applied = Applied {
        store: header.store_id,
        at: header.at,
        seq: header.seq,
    };
    index.apply(Batch::new(), applied)?;
    tracing::info!(records, group = header.seq, "the state image is loaded");
    Ok(applied)
}

/// A fresh index with the newest good state image, or nothing, in it; and where it stands.
pub(in crate::store) fn begin(ground: &Ground) -> Result<(Arc<Shared>, Applied), ReplayError> {
    let (disk, dir) = (&*ground.disk, &ground.options.dir);
    let fresh = || {
        let index = ground
            .engines
            .open_fresh(dir, ground.options.config.cache_bytes)
            .map_err(ReplayError::index)?;
        let shared = Shared::new(ground.clone(), index, Directory::default());
        Ok::<_, ReplayError>(Arc::new(shared))
    };
    let newest = files::newest(disk, dir, ground.store_id)
        .map_err(|error| ReplayError::Log(error.to_string()))?;
    if let Some(image) = newest {
        let shared = fresh()?;
        let loaded = load(&image, &***shared.index.load());
        match loaded {
            Ok(applied) => {
                if let Err(error) = check::verify(&***shared.index.load()) {
                    // Its bytes are as they were written: better than a store that does not open.
                    tracing::error!(%error, "the state image does not add up; it is taken as it is");
                    sum_up(&shared, Batch::new(), applied)
                        .map_err(|error| ReplayError::Index(error.to_string()))?;
                }
                let directory = directory(&***shared.index.load())
                    .map_err(|error| ReplayError::Index(error.to_string()))?;
                shared.directory.store(Arc::new(directory));
                return Ok((shared, applied));
            }
            Err(LoadError::Index(error)) => return Err(ReplayError::index(error)),
            // What the log still has is better than nothing.
            Err(error) => tracing::error!(%error, "the state image can't be used"),
        }
    }
    Ok((fresh()?, Applied::default()))
}
