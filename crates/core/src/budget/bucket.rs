//! A token bucket that many threads share without a lock.
//!
//! Every request deposits a share of the price of a further attempt, every further attempt takes the whole price, and
//! what was deposited or taken is forgotten after a time to live. On top there is a reserve of so many per second, so
//! that a service with few requests can fail over too. The time to live is cut into slots; a slot is one atomic word
//! that carries its own generation, so whoever comes first in a new one empties it in the same step.
//!
//! A taker takes first, looks at the sum afterwards and gives back if it overdrew. Two takers that race for the last
//! token may both go without, but never both get it: refusing one too many is the safe error here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Budget;
use crate::policy::{PolicyError, Problems};

/// Slots per time to live: forgetting happens in steps of a tenth of it, which no one notices.
const SLOTS: u32 = 10;
/// The price of one further attempt, in hundredths, so that a per cent is one.
const PRICE: i64 = 100;
/// At most ten further attempts per request: more than this is no budget.
const PERCENT_MAX: u32 = 1000;
/// More than a million further attempts a second is beyond what one process carries.
const PER_SECOND_MAX: u32 = 1_000_000;
/// A second: less would forget faster than a connection fails.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Ten minutes: an outage from before then says nothing of now.
const TTL_MAX: Duration = Duration::from_secs(600);

/// A budget that allows further attempts as a share of all requests, plus some each second.
///
/// Shared by reference or `Arc` between threads. All times are since one moment that its users agree on, and may reach
/// the bucket slightly out of order.
#[derive(Debug)]
pub struct TokenBucket {
    slots: [AtomicU64; SLOTS as usize],
    slot: Duration,
    percent: i32,
    reserve: i64,
}

impl TokenBucket {
    /// A bucket that allows `percent` further attempts per hundred requests, and `per_second` more each second,
    /// measured over `ttl`.
    ///
    /// # Errors
    /// If `percent` is over 1000, `per_second` over a million, or `ttl` outside 1 s to 10 min; all problems at once.
    pub fn try_new(percent: u32, per_second: u32, ttl: Duration) -> Result<Self, PolicyError> {
        let mut problems = Problems::default();
        problems.expect(percent <= PERCENT_MAX, "budget.percent", percent, "at most 1000");
        problems.expect(per_second <= PER_SECOND_MAX, "budget.per_second", per_second, "at most 1000000");
        problems.expect((TTL_MIN..=TTL_MAX).contains(&ttl), "budget.ttl", ttl, "1 s to 10 min");
        problems.into_result()?;
        Ok(Self::new_checked(percent, per_second, ttl))
    }

    fn new_checked(percent: u32, per_second: u32, ttl: Duration) -> Self {
        let percent = i32::try_from(percent).unwrap_or(i32::MAX);
        let tokens = u64::from(per_second) * u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX) / 1000;
        let reserve = i64::try_from(tokens).unwrap_or(i64::MAX / PRICE) * PRICE;
        Self { slots: std::array::from_fn(|_| AtomicU64::new(0)), slot: ttl / SLOTS, percent, reserve }
    }

    /// Notes a request, which pays its share in.
    pub fn deposit(&self, now: Duration) {
        self.add(self.generation(now), self.percent);
    }

    /// Takes the price of one further attempt; `false` if there is not enough.
    pub fn try_take_at(&self, now: Duration) -> bool {
        let generation = self.generation(now);
        self.add(generation, -(PRICE as i32));
        if self.balance(generation) >= 0 {
            return true;
        }
        self.add(generation, PRICE as i32);
        false
    }

    /// How many further attempts could be paid for now.
    #[must_use]
    pub fn available(&self, now: Duration) -> u64 {
        u64::try_from(self.balance(self.generation(now)) / PRICE).unwrap_or(0)
    }

    /// The bucket as a [`Budget`] at this moment.
    #[must_use]
    pub const fn at(&self, now: Duration) -> Withdrawals<'_> {
        Withdrawals { bucket: self, now }
    }

    /// Which slot-length of time `now` is in. Counted from 1, so that an untouched slot belongs to none.
    fn generation(&self, now: Duration) -> u32 {
        let number = now.as_nanos() / self.slot.as_nanos().max(1);
        u32::try_from(number).unwrap_or(u32::MAX - 1).saturating_add(1)
    }

    /// Adds to the generation's slot, emptying it first if it still holds an older one.
    fn add(&self, generation: u32, amount: i32) {
        let slot = &self.slots[(generation % SLOTS) as usize];
        let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (held, sum) = unpack(word);
            // A thread that is late by a whole time to live must not wipe out what newer ones wrote.
            if held > generation {
                return None;
            }
            let sum = if held == generation { sum } else { 0 };
            Some(pack(generation, sum.saturating_add(amount)))
        });
    }

    /// The reserve and all that the living slots hold.
    fn balance(&self, generation: u32) -> i64 {
        // A slot ahead of this generation is another thread's, whose clock was read later; it lives too.
        let is_living = |held: u32| held != 0 && generation.saturating_sub(held) < SLOTS;
        let slots = self.slots.iter().map(|slot| unpack(slot.load(Ordering::Acquire)));
        self.reserve + slots.filter(|(held, _)| is_living(*held)).map(|(_, sum)| i64::from(sum)).sum::<i64>()
    }
}

impl Default for TokenBucket {
    /// 20 % of the requests and 10 a second, over 10 s: linkerd's published defaults.
    fn default() -> Self {
        Self::new_checked(20, 10, Duration::from_secs(10))
    }
}

/// A [`TokenBucket`] at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawals<'b> {
    bucket: &'b TokenBucket,
    now: Duration,
}

impl Budget for Withdrawals<'_> {
    fn try_take(&mut self) -> bool {
        self.bucket.try_take_at(self.now)
    }
}

/// A slot's word: its generation above, its sum below.
const fn pack(generation: u32, sum: i32) -> u64 {
    (generation as u64) << 32 | (sum as u32) as u64
}

/// The generation and the sum in a slot's word.
const fn unpack(word: u64) -> (u32, i32) {
    ((word >> 32) as u32, word as u32 as i32)
}
