//! Numbers that depend on a seed alone, so that whatever was found is found again.

/// splitmix64.
#[derive(Clone, Debug)]
pub(in crate::store) struct Rng(pub(super) u64);

impl Rng {
    pub(in crate::store) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another one, which this one and `salt` give.
    pub(super) fn branch(&self, salt: u64) -> Self {
        let mut own = Self(self.0 ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        own.next();
        own
    }

    pub(in crate::store) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// Each with even odds; sometimes all of them.
    pub(super) fn some<T: Clone>(&mut self, of: &[T]) -> Vec<T> {
        match self.below(4) {
            0 => of.to_vec(),
            1 => self.pick(of).cloned().into_iter().collect(),
            _ => of.iter().filter(|_| self.one_in(2)).cloned().collect(),
        }
    }
}
