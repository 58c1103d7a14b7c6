//! Who has presented too many wrong tokens: guessing must not pay, and a client with an old token must not suffer for it.
//!
//! Different wrong tokens are counted, not wrong requests. A guesser has to vary them; a client whose token was changed, and
//! a page of the path form whose links lead out of it (`/style.css` has the token `style.css`), repeat the same few ones and
//! would otherwise lock out everybody behind their address. Each worker counts for itself, without locks.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::errors::ErrorCode;

/// Different wrong tokens that one address may present within [`WINDOW`]. Two a second are more than people mistype and
/// programs have old tokens, and let a guesser try 63 million a year and worker: nothing against a token of 16 letters.
const WRONG_MAX: usize = 20;

/// How long wrong tokens count, from the first one on, and so the longest that an address is shut out: short, for others may
/// share the address.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// Addresses remembered at once; the oldest goes first. It bounds memory (20 hashes each: below 1 MiB a worker); who commands
/// more addresses than that gains by their number already.
const ADDRESSES_MAX: usize = 4096;

/// The wrong tokens of late, by the address they came from.
#[derive(Debug, Default)]
pub(crate) struct AuthLimit {
    hasher: RandomState,
    wrong: HashMap<IpAddr, Wrong>,
    /// Every address in `wrong` once, in the order of `since`.
    oldest_first: VecDeque<IpAddr>,
}

#[derive(Debug)]
struct Wrong {
    since: Instant,
    /// Hashes of what was presented.
    tokens: Vec<u64>,
}

impl AuthLimit {
    /// What reading the credentials `presented` by a client came to, unless its address is shut out: then the right token is
    /// refused as well, so that the answer does not tell which one is right.
    pub(crate) fn judged<T>(
        &mut self,
        client: IpAddr,
        presented: &[u8],
        read: Result<T, ErrorCode>,
        now: Instant,
    ) -> Result<T, ErrorCode> {
        let is_wrong = matches!(read, Err(ErrorCode::AuthFailed));
        if !is_wrong && self.wrong.is_empty() {
            return read;
        }
        self.forget(now);
        let client = network(client);
        if self.wrong.get(&client).is_some_and(|wrong| wrong.tokens.len() >= WRONG_MAX) {
            return Err(ErrorCode::TooManyAuthFailures);
        }
        if is_wrong {
            self.count(client, presented, now);
        }
        read
    }

    fn count(&mut self, client: IpAddr, presented: &[u8], now: Instant) {
        let token = self.hasher.hash_one(presented);
        if let Some(wrong) = self.wrong.get_mut(&client) {
            if !wrong.tokens.contains(&token) {
                wrong.tokens.push(token);
            }
            return;
        }
        if self.wrong.len() == ADDRESSES_MAX {
            self.forget_oldest();
        }
        self.oldest_first.push_back(client);
        self.wrong.insert(client, Wrong { since: now, tokens: vec![token] });
    }

    /// Forgets whose window has ended.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.oldest_first.front()
            && self.wrong.get(oldest).is_none_or(|wrong| now.saturating_duration_since(wrong.since) >= WINDOW)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.oldest_first.pop_front() {
            self.wrong.remove(&oldest);
        }
    }
}

/// What one client has for itself: of IPv6 it has at least a whole /64 to choose addresses from (RFC 6177).
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const RIGHT: Result<(), ErrorCode> = Ok(());
    const WRONG: Result<(), ErrorCode> = Err(ErrorCode::AuthFailed);
    const SHUT_OUT: Result<(), ErrorCode> = Err(ErrorCode::TooManyAuthFailures);

    fn guess(limit: &mut AuthLimit, client: IpAddr, n: usize, now: Instant) -> Result<(), ErrorCode> {
        limit.judged(client, &n.to_be_bytes(), WRONG, now)
    }

    /// One that `client` has just been shut out of.
    fn exhausted(client: IpAddr, now: Instant) -> AuthLimit {
        let mut limit = AuthLimit::default();
        for n in 0..WRONG_MAX {
            assert_eq!(limit.judged(client, b"t", RIGHT, now), RIGHT);
            assert_eq!(guess(&mut limit, client, n, now), WRONG);
        }
        limit
    }

    #[test]
    fn who_guesses_is_shut_out_with_the_right_token_too_until_the_window_ends() {
        let start = Instant::now();
        let mut limit = exhausted(CLIENT, start);
        let late = start + WINDOW - Duration::from_nanos(1);
        for now in [start, late] {
            assert_eq!(guess(&mut limit, CLIENT, 99, now), SHUT_OUT);
            assert_eq!(limit.judged(CLIENT, b"t", RIGHT, now), SHUT_OUT);
            assert_eq!(limit.judged(Ipv4Addr::LOCALHOST.into(), b"t", RIGHT, now), RIGHT, "another address");
        }
        let over = start + WINDOW;
        assert_eq!(limit.judged(CLIENT, b"t", RIGHT, over), RIGHT);
        assert_eq!(guess(&mut limit, CLIENT, 0, over), WRONG, "a new window");
    }

    #[test]
    fn the_same_wrong_token_shuts_nobody_out() {
        let (mut limit, now) = (AuthLimit::default(), Instant::now());
        for _ in 0..10 * WRONG_MAX {
            assert_eq!(guess(&mut limit, CLIENT, 0, now), WRONG);
        }
        assert_eq!(limit.judged(CLIENT, b"t", RIGHT, now), RIGHT);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let now = Instant::now();
        let mut limit = exhausted("2001:db8::1".parse().unwrap(), now);
        assert_eq!(limit.judged("2001:db8::f:2".parse().unwrap(), b"t", RIGHT, now), SHUT_OUT);
        assert_eq!(limit.judged("2001:db8:0:1::1".parse().unwrap(), b"t", RIGHT, now), RIGHT);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let now = Instant::now();
        let mut limit = exhausted(CLIENT, now);
        for n in 0..ADDRESSES_MAX as u32 {
            assert_eq!(limit.judged(CLIENT, b"t", RIGHT, now), SHUT_OUT, "{n}");
            let _ = guess(&mut limit, Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 0, now);
            assert!(limit.wrong.len() <= ADDRESSES_MAX && limit.oldest_first.len() == limit.wrong.len());
        }
        assert_eq!(limit.judged(CLIENT, b"t", RIGHT, now), RIGHT);
    }
}
