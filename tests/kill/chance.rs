//! Numbers that look random, and are the same again with the same seed; messages made of them.

pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(n + 8);
        while out.len() < n {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(n);
        out
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(usize::try_from(self.below(of.len() as u64)).ok()?)
    }
}

pub fn hash(text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    text.bytes().fold(start, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    })
}

/// A mark in an id: its body goes to a file of its own.
pub const LARGE: &str = "-large";

/// The message of an id: from a few bytes to many blob chunks, with lines that begin with dots.
pub fn message(id: &str) -> Vec<u8> {
    let mut chance = Chance::new(hash(id));
    let lines = match chance.below(100) {
        _ if id.ends_with(LARGE) => 90_000,
        0..50 => chance.below(5),
        50..85 => 20 + chance.below(60),
        85..97 => 600,
        _ => 4000,
    };
    let mut text = format!("From: k@example.net\r\nSubject: {id}\r\n\r\n").into_bytes();
    for n in 0..lines {
        if n % 7 == 0 {
            text.push(b'.');
        }
        // 72 letters that do not compress well.
        for raw in chance.bytes(54).chunks(3) {
            let bits = raw.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b));
            text.extend((0..4).map(|at| b'0' + (bits >> (6 * at) & 63) as u8));
        }
        text.extend_from_slice(b"\r\n");
    }
    text
}

pub fn subject(header: &[u8]) -> String {
    let text = String::from_utf8_lossy(header);
    let subject = text.lines().find_map(|l| l.strip_prefix("Subject: "));
    subject.unwrap_or_default().trim().to_owned()
}
