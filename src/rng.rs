//! Random words by counter: Philox4x32-10, one slot per decision (`docs/draw.md`).

/// Philox4x32-10: 128 random bits from a counter and a key.
///
/// # Source
/// Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
#[inline(always)]
pub(crate) fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let a = 0xD251_1F53_u64 * u64::from(c0);
        let b = 0xCD9E_8D57_u64 * u64::from(c2);
        (c0, c1, c2, c3) = ((b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// The low and the high half, as Philox takes 64-bit numbers.
#[inline(always)]
pub(crate) fn halves(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// What a slot is for. The numbers are part of the draw.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Permutation = 1,
    Partner = 2,
    SelfMix = 3,
    Apply = 4,
    LayerCount = 5,
    View = 6,
    Gamma = 7,
    Method = 8,
    Position = 9,
    Grid = 10,
    Cells = 11,
    Covariance = 12,
    Noise = 13,
    Warp = 14,
    Smooth = 15,
}

/// The random words of one decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    key: [u32; 2],
    sample: [u32; 2],
    tag: u32,
}

impl Slot {
    pub fn new(seed: u64, sample: u64, purpose: Purpose, layer: u32) -> Self {
        Slot { key: halves(seed), sample: halves(sample), tag: purpose as u32 + 256 * layer }
    }

    /// Words 2·block and 2·block + 1.
    #[inline]
    pub fn block(&self, block: u32) -> [Word; 2] {
        let [lo, hi] = self.sample;
        let [r0, r1, r2, r3] = philox([lo, hi, self.tag, block], self.key);
        let join = |lo, hi| Word(u64::from(lo) | u64::from(hi) << 32);
        [join(r0, r1), join(r2, r3)]
    }

    /// Word `index`.
    #[inline]
    pub fn word(&self, index: u32) -> Word {
        self.block(index / 2)[(index % 2) as usize]
    }
}

/// 64 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub u64);

impl Word {
    /// Uniform over 0..n.
    #[inline]
    pub fn below(self, n: u64) -> u64 {
        ((u128::from(self.0) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in [0, 1).
    #[inline]
    pub fn unit(self) -> f64 {
        (self.0 >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in (0, 1), both ends excluded.
    #[inline]
    pub fn open(self) -> f64 {
        ((self.0 >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
    }

    /// True with probability `p`.
    #[inline]
    pub fn chance(self, p: f32) -> bool {
        self.unit() < f64::from(p)
    }

    /// Uniform in [−r, r].
    #[inline]
    pub fn symmetric(self, r: f32) -> f32 {
        ((2.0 * self.unit() - 1.0) * f64::from(r)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        // Random123's kat_vectors for philox4x32, 10 rounds.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn words_cover_their_ranges_and_no_more() {
        let (least, most) = (Word(0), Word(u64::MAX));
        assert_eq!((least.below(7), most.below(7)), (0, 6));
        assert_eq!(least.unit(), 0.0);
        assert!(most.unit() < 1.0);
        assert!(least.open() > 0.0 && most.open() < 1.0);
        assert!(most.chance(1.0) && !least.chance(0.0));
        assert_eq!((least.symmetric(0.3), most.symmetric(0.3)), (-0.3, 0.3));
    }
}
