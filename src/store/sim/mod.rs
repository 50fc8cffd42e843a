//! Whole stores on a disk and an index that crash and fail on purpose.
//!
//! A history of random operations is carried out once, and before each step of the disk and of
//! the index an image is kept of what a power cut there could leave, with what had been answered
//! by then. From each image the store is opened again: everything that was answered must be
//! there, of what was not each change wholly or not at all, and nothing else. Then the history
//! goes on from there, and is cut off again.
//!
//! | file | holds |
//! |---|---|
//! | `files`, `indexes` | what is durable, what is under way, and what a crash makes of it |
//! | `world` | both as the store's own traits; faults; images |
//! | `model`, `plan` | what should be, and what comes next |
//! | `compare` | what is seen, held against it |
//! | `run`, `act`, `look` | the real store: doing it, and seeing what it shows |
//! | `crashes` | the tests |

mod act;
mod compare;
mod crashes;
mod files;
mod indexes;
mod look;
mod model;
mod plan;
pub(super) mod rng;
mod run;
mod world;
