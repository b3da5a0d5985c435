//! Randomness as the core sees it: a generator that is handed in.
//!
//! Nothing below `net` asks the system for randomness. The runtime seeds one [`Random`] per shard; tests and the simulator
//! seed it with a number they can write down, and get the same run again. It is fast, not secret: never use it for keys,
//! salts or challenges.

use fastrand::Rng;

/// A small deterministic generator; equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub struct Random(Rng);

impl Random {
    /// The generator whose sequence `seed` determines.
    pub fn from_seed(seed: u64) -> Self {
        Random(Rng::with_seed(seed))
    }

    /// A number from 0 to `n - 1`, all equally likely; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { self.0.usize(..n) }
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// `len` characters of `A-Z`, `a-z` and `0-9`, which every server allows in a client id `[MQTT-3.1.3-5]`.
    pub fn alphanumeric(&mut self, len: usize) -> String {
        std::iter::repeat_with(|| self.0.alphanumeric()).take(len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_determines_everything() {
        let run = |seed| {
            let mut random = Random::from_seed(seed);
            (random.u64(), random.below(1000), random.alphanumeric(20))
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn below_reaches_all_and_nothing_else() {
        let mut random = Random::from_seed(1);
        let mut seen = [0; 5];
        (0..500).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn assigned_client_ids_use_only_what_every_server_allows() {
        let id = Random::from_seed(3).alphanumeric(1000);
        assert_eq!(id.len(), 1000);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(Random::from_seed(3).alphanumeric(0), "");
    }
}
