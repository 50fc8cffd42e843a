//! What a peer compressed (RFC 1951), read in pieces and put down while it is silent.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! A decoder is 43 KiB with the 32 KiB that the peer may refer back to. Between two blocks of the
//! stream, where every flush ends, all that has to be kept is what the peer really sent of
//! those, packed.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress_with_limit};

/// How far back a peer may refer (RFC 1951, 3.2.5).
const WINDOW: usize = 32 * 1024;
/// Less than this is kept as it is.
const SMALL: usize = 512;

/// The stream makes no sense.
#[derive(Debug)]
pub(super) struct Broken;

pub(super) struct Inflater {
    /// What came and was not read yet.
    input: Vec<u8>,
    at: usize,
    /// None: it rests.
    running: Option<Box<Running>>,
    resting: Resting,
    /// There is more output than was asked for.
    more: bool,
    /// The last block was the last one.
    done: bool,
}

struct Running {
    core: DecompressorOxide,
    ring: Vec<u8>,
    at: usize,
    /// Of the ring, never less than before.
    filled: usize,
    /// Nothing was read since the last block ended.
    between: bool,
    /// What the block has given so far.
    of_block: usize,
}

/// Between two blocks.
#[derive(Default)]
struct Resting {
    bits: u8,
    bit_count: u8,
    /// What was read last.
    window: Box<[u8]>,
    packed: bool,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            input: Vec::new(),
            at: 0,
            running: None,
            resting: Resting::default(),
            more: false,
            done: false,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Whether a read may give something before more is fed.
    pub(super) fn has_more(&self) -> bool {
        self.more || self.at < self.input.len()
    }

    /// The peer has ended its stream.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Gives at most a block; 0: more must be fed, unless the stream is done.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        while !self.done && !out.is_empty() && self.has_more() {
            let (made, ended) = self.step(out)?;
            if made > 0 {
                return Ok(made);
            }
            if !ended && !self.has_more() {
                break;
            }
        }
        Ok(0)
    }

    /// After the peer's last command: reads the rest of its flush, which gives nothing more.
    /// Some: all that follows is not compressed, and begins with this.
    pub(super) fn end(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let mut out = [0; 256];
        while !self.done && self.has_more() {
            let (made, ended) = self.step(&mut out)?;
            // An empty block: the flush itself.
            if ended && made == 0 && self.running().of_block == 0 {
                self.done = true;
            }
        }
        if !self.done {
            return Ok(None);
        }
        Ok(Some(self.input.split_off(self.at)))
    }

    /// What came out, and whether a block ended.
    fn step(&mut self, out: &mut [u8]) -> Result<(usize, bool), Broken> {
        let (input, at) = (std::mem::take(&mut self.input), self.at);
        let running = self.running();
        if running.between {
            running.of_block = 0;
        }
        let room = out.len().min(WINDOW - running.at);
        let (status, read, made) = decompress_with_limit(
            &mut running.core,
            input.get(at..).unwrap_or_default(),
            &mut running.ring,
            running.at,
            room,
            TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
        );
        let new = running.at..running.at + made;
        if let (Some(out), Some(new)) = (out.get_mut(..made), running.ring.get(new)) {
            out.copy_from_slice(new);
        }
        running.filled = running.filled.max(running.at + made);
        running.at = (running.at + made) % WINDOW;
        running.of_block += made;
        let ended = status == TINFLStatus::BlockBoundary;
        running.between = ended || running.between && read == 0;
        self.input = input;
        self.at = at + read;
        if self.at == self.input.len() {
            self.input = Vec::new();
            self.at = 0;
        }
        self.more = status == TINFLStatus::HasMoreOutput;
        match status {
            TINFLStatus::Done => self.done = true,
            TINFLStatus::BlockBoundary
            | TINFLStatus::HasMoreOutput
            | TINFLStatus::NeedsMoreInput => {}
            _ => return Err(Broken),
        }
        Ok((made, ended))
    }

    fn running(&mut self) -> &mut Running {
        let resting = &mut self.resting;
        self.running
            .get_or_insert_with(|| Box::new(std::mem::take(resting).wake()))
    }

    /// Whether it holds more than it has to.
    pub(super) fn is_warm(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.between) && !self.has_more()
    }

    /// Lets go what it can do without, where the peer left off between two blocks.
    pub(super) fn rest(&mut self) {
        if self.is_warm()
            && let Some(running) = &self.running
            && let Some(state) = running.core.block_boundary_state()
        {
            let mut window = Vec::new();
            if running.filled == WINDOW {
                window.extend_from_slice(running.ring.get(running.at..).unwrap_or_default());
            }
            window.extend_from_slice(running.ring.get(..running.at).unwrap_or_default());
            let packed = if window.len() > SMALL {
                zstd::bulk::compress(&window, 1).ok()
            } else {
                None
            };
            let packed = packed.filter(|packed| packed.len() < window.len());
            self.resting = Resting {
                bits: state.bit_buf,
                bit_count: state.num_bits,
                packed: packed.is_some(),
                window: packed.unwrap_or(window).into_boxed_slice(),
            };
            self.running = None;
        }
    }

    /// Bytes that it holds, about.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let running = self.running.as_ref();
        let running = running.map_or(0, |r| size_of::<Running>() + r.ring.capacity());
        size_of::<Self>() + self.input.capacity() + self.resting.window.len() + running
    }
}

impl Resting {
    fn wake(self) -> Running {
        let window = if self.packed {
            // It was packed here.
            zstd::bulk::decompress(&self.window, WINDOW).unwrap_or_default()
        } else {
            self.window.into_vec()
        };
        let filled = window.len();
        let mut ring = window;
        ring.resize(WINDOW, 0);
        Running {
            core: DecompressorOxide::from_block_boundary_state(&BlockBoundaryState {
                num_bits: self.bit_count,
                bit_buf: self.bits,
                ..BlockBoundaryState::default()
            }),
            ring,
            at: filled % WINDOW,
            filled,
            between: true,
            of_block: 0,
        }
    }
}

#[cfg(test)]
mod tests;
