//! Numbers that look random and are a function of the session's seed: the same session draws them again on replay.
//!
//! SplitMix64's output function (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) over the
//! seed, the attempt and the purpose. There is no state to advance, so how often a shell polls changes no draw.

/// What a draw is for, so that two draws of one attempt are independent.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The first of two endpoints to compare.
    First = 1,
    /// The second one.
    Second = 2,
    /// The length of a backoff, or of the shedding of an endpoint.
    Backoff = 3,
}

/// The increment of SplitMix64: 2⁶⁴ divided by the golden ratio, odd, which spreads consecutive inputs far apart.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
/// How many purposes an attempt's draws are spaced by; at least one more than there are.
const PURPOSES: u64 = 4;

/// A number in `0..bound`; 0 if the bound is 0. Its bias is at most bound / 2⁶⁴.
pub(crate) fn below(bound: u64, seed: u64, attempt: u32, purpose: Purpose) -> u64 {
    let step = u64::from(attempt) * PURPOSES + purpose as u64;
    let drawn = mix(mix(seed).wrapping_add(step.wrapping_mul(GAMMA)));
    let product = u128::from(drawn) * u128::from(bound);
    (product >> 64) as u64
}

/// SplitMix64's output function; its constants are the paper's (variant 13 of Stafford's mixers).
const fn mix(input: u64) -> u64 {
    let mut word = input.wrapping_add(GAMMA);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::{Purpose, below};

    #[test]
    fn draws_stay_below_the_bound_and_reach_all_of_it() {
        let mut seen = [0_u32; 7];
        for seed in 0..7000 {
            seen[usize::try_from(below(7, seed, 1, Purpose::First)).expect("below 7")] += 1;
        }
        // 1000 expected each; a fair die leaves this corridor once in some 10^9 runs, and these draws are fixed.
        assert!(seen.iter().all(|&count| (820..1180).contains(&count)), "{seen:?}");
        assert_eq!(below(0, 1, 1, Purpose::First), 0);
        assert_eq!(below(1, u64::MAX, u32::MAX, Purpose::Backoff), 0);
    }

    #[test]
    fn attempts_purposes_and_seeds_draw_apart() {
        let draw = |seed, attempt, purpose| below(u64::MAX, seed, attempt, purpose);
        assert_ne!(draw(1, 1, Purpose::First), draw(1, 1, Purpose::Second));
        assert_ne!(draw(1, 1, Purpose::First), draw(1, 2, Purpose::First));
        assert_ne!(draw(1, 1, Purpose::First), draw(2, 1, Purpose::First));
        assert_eq!(draw(1, 1, Purpose::First), draw(1, 1, Purpose::First));
    }
}
