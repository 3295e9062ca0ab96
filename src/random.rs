//! Randomness as a function: (seed, stream, position) → draws.
//!
//! Nothing here has a history. Whoever needs a random number names the stream it belongs to and the
//! position it is for (usually the global position of a sample), and gets the same draws on any
//! machine, thread or restart. This is what makes resume exact and any step replayable.

use rand::TryRng;
use std::convert::Infallible;

/// A named family of draws under one seed, e.g. `Stream::new(seed, "denoiser/noise")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream called `name` under `seed`. Different names give independent draws.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("umbra random stream v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(name.as_bytes());
        let hash = hasher.finalize();
        let word = |at: usize| {
            u32::from_le_bytes(hash.as_bytes()[at..at + 4].try_into().expect("4 bytes of 32"))
        };
        Self { key: [word(0), word(4)] }
    }

    /// The draws at `position`, from their beginning.
    pub fn at(&self, position: u64) -> Draws {
        Draws { key: self.key, position, block: 0, buffer: [0; 4], used: 4 }
    }
}

/// The draws that belong to one position of a stream, in order. At most 2⁶⁴ blocks of four words.
///
/// Also a [`rand`] generator, for whatever `rand` does well (ranges, shuffles, distributions).
#[derive(Debug, Clone)]
pub struct Draws {
    key: [u32; 2],
    position: u64,
    block: u64,
    buffer: [u32; 4],
    used: usize,
}

impl Draws {
    fn word(&mut self) -> u32 {
        if self.used == 4 {
            let [low, high] = halves(self.position);
            let [block_low, block_high] = halves(self.block);
            self.buffer = philox([block_low, block_high, low, high], self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// These draws without the next `words` words of 32 bits, which are not computed. A uniform number takes two words,
    /// a standard normal one four.
    pub fn after(&self, words: u64) -> Self {
        let word = 4 * self.block - (4 - self.used as u64) + words;
        let mut draws = Self { block: word / 4, used: 4, ..self.clone() };
        for _ in 0..word % 4 {
            draws.word();
        }
        draws
    }

    /// A uniform number in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        let bits = (u64::from(self.word()) << 32 | u64::from(self.word())) >> 11;
        bits as f64 * (-53f64).exp2()
    }

    /// A uniform number in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A uniform integer in [0, n), `n` > 0. Bias below n / 2⁶⁴.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no integer lies below 0");
        let word = u64::from(self.word()) << 32 | u64::from(self.word());
        ((u128::from(word) * u128::from(n)) >> 64) as u64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// A standard normal number (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        self.normal_pair()[0]
    }

    /// Fills `out` with standard normal numbers.
    pub fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let normals = self.normal_pair();
            for (to, from) in pair.iter_mut().zip(normals) {
                *to = from as f32;
            }
        }
    }

    /// `n` standard normal numbers.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        self.fill_normal(&mut out);
        out
    }

    fn normal_pair(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (self.uniform() * std::f64::consts::TAU).sin_cos();
        [radius * cos, radius * sin]
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from(self.word()) | u64::from(self.word()) << 32)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(4) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

/// A keyed permutation of 0..n, computed point by point: no table, no state.
///
/// A four-round Feistel network over the next even number of bits, walking the cycle until it lands
/// inside (fewer than four steps on average).
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    key: [u32; 2],
}

impl Permutation {
    /// The permutation of 0..n under `stream` number `index` (an epoch, say).
    pub fn new(n: u64, stream: Stream, index: u64) -> Self {
        let mut draws = stream.at(index);
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), key: [draws.word(), draws.word()] }
    }

    /// Where `index` (below n) goes.
    pub fn apply(&self, index: u64) -> u64 {
        assert!(index < self.n, "index {index} is not below {}", self.n);
        let mut value = self.feistel(index);
        while value >= self.n {
            value = self.feistel(value);
        }
        value
    }

    fn feistel(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..4 {
            let [low, high] = halves(right);
            let [a, b, ..] = philox([low, high, round, 0], self.key);
            let mixed = (u64::from(a) | u64::from(b) << 32) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << self.half_bits | right
    }
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Philox4x32-10: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = halves(0xD251_1F53 * u64::from(counter[0]));
        let [low1, high1] = halves(0xCD9E_8D57 * u64::from(counter[2]));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that ship with the paper's Random123 library (`kat_vectors`).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]
        );
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn draws_can_be_entered_anywhere() {
        for start in 0..6 {
            let mut draws = Stream::new(3, "anywhere").at(5);
            for _ in 0..start {
                draws.word();
            }
            for words in 0..10 {
                let mut slow = draws.clone();
                for _ in 0..words {
                    slow.word();
                }
                let mut fast = draws.after(words);
                assert_eq!([0; 7].map(|_| fast.word()), [0; 7].map(|_| slow.word()));
            }
        }
    }

    #[test]
    fn a_permutation_meets_every_index_once() {
        for n in [1, 2, 3, 997, 4096, 10_001] {
            for epoch in 0..5 {
                let order = Permutation::new(n, Stream::new(7, "order"), epoch);
                let mut seen = vec![false; n as usize];
                for index in 0..n {
                    let to = order.apply(index) as usize;
                    assert!(!std::mem::replace(&mut seen[to], true), "n {n}: {to} met twice");
                }
            }
        }
    }

    #[test]
    fn epochs_and_seeds_give_other_orders() {
        let order = |seed, epoch| {
            let order = Permutation::new(1000, Stream::new(seed, "order"), epoch);
            (0..1000).map(|index| order.apply(index)).collect::<Vec<_>>()
        };
        let fixed_points =
            order(1, 0).iter().enumerate().filter(|&(at, &to)| at as u64 == to).count();
        assert!(fixed_points < 10, "{fixed_points} of 1000 stayed where they were");
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    #[test]
    fn normals_have_the_right_moments() {
        let draws = Stream::new(3, "moments").at(0).normals(200_000);
        let mean = draws.iter().map(|&x| f64::from(x)).sum::<f64>() / 200_000.0;
        let moment = |p: i32| draws.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / 200_000.0;
        // Four standard errors of each moment.
        assert!(mean.abs() < 0.009, "mean {mean}");
        assert!((moment(2) - 1.0).abs() < 0.013, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.09, "fourth moment {}", moment(4));
    }

    #[test]
    fn a_position_gives_the_same_draws_whoever_asks_first() {
        let stream = Stream::new(1, "noise");
        let _ = stream.at(5).normals(100);
        assert_eq!(stream.at(6).normals(9), stream.at(6).normals(9));
        assert_ne!(stream.at(6).normals(9), stream.at(7).normals(9));
        assert_ne!(stream.at(6).normals(9), Stream::new(1, "other").at(6).normals(9));
    }
}
