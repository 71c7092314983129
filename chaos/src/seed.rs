//! Chance that can be repeated: everything an experiment chooses comes from its seed.

/// `SplitMix64`: small, and good enough to choose among a few.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// From the number given, and a name that keeps its users apart.
    pub fn new(seed: u64, user: &str) -> Self {
        // FNV-1a.
        let mixed = user.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ mixed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw().checked_rem(limit).unwrap_or_default()
    }

    /// One of several.
    pub fn choose<'a, T>(&mut self, among: &'a [T]) -> Option<&'a T> {
        let limit = u64::try_from(among.len()).unwrap_or(u64::MAX);
        among.get(usize::try_from(self.below(limit)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same() {
        let take = |seed, user| {
            let mut seed = Seed::new(seed, user);
            [seed.draw(), seed.draw(), seed.below(7)]
        };
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
    }
}
