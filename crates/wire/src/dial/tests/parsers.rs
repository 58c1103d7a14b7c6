//! Whatever a node answers, reading it neither panics nor takes a byte too many.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use handover_core::{Blame, Fault};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{join, sink};

use super::kit::target;
use crate::dial::cause::Cause;
use crate::dial::{Credentials, http, socks};

/// Runs a handshake against bytes that are all there; nothing in it ever has to wait.
fn at_once<T>(handshake: impl Future<Output = T>) -> T {
    match pin!(handshake).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("a slice is never pending"),
    }
}

/// What CONNECT makes of these bytes: what was early, and what was left unread.
fn connect(answer: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Cause> {
    let mut io = join(answer, sink());
    let early = at_once(http::connect(&mut io, &target("example.com", 443), None))?;
    Ok((early.to_vec(), io.reader().to_vec()))
}

/// What SOCKS5 makes of them: what was left unread.
fn socks(answer: &[u8], credentials: Option<&Credentials>) -> Result<Vec<u8>, Cause> {
    let mut io = join(answer, sink());
    at_once(socks::connect(&mut io, &target("example.com", 443), credentials))?;
    Ok(io.reader().to_vec())
}

fn credentials() -> Credentials {
    Credentials { user: "u".into(), password: "p".into() }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(answer in vec(any::<u8>(), 0..9000)) {
        let _ = connect(&answer);
        let _ = socks(&answer, None);
        let _ = socks(&answer, Some(&credentials()));
    }

    #[test]
    fn bytes_that_look_like_a_head_never_panic(lines in vec("[ -~\r\n\t\0é:;=,]{0,40}", 0..30)) {
        let _ = connect(format!("HTTP/1.{}", lines.join("\r\n")).as_bytes());
    }

    #[test]
    fn bytes_that_look_like_replies_never_panic(
        method in prop_oneof![Just(0_u8), Just(2), any::<u8>()],
        reply in vec(prop_oneof![Just(5_u8), Just(0), Just(1), Just(3), Just(4), any::<u8>()], 0..300),
    ) {
        let answer = [vec![5, method], reply].concat();
        let _ = socks(&answer, None);
        let _ = socks(&answer, Some(&credentials()));
    }

    #[test]
    fn a_tunnel_gets_exactly_what_is_behind_the_head(
        status in 200_u16..300,
        fields in vec(("[A-Za-z-]{1,20}", "[ -~\t]{0,60}"), 0..20),
        behind in vec(any::<u8>(), 0..20_000),
    ) {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut answer = format!("HTTP/1.1 {status} OK\r\n{fields}\r\n").into_bytes();
        answer.extend_from_slice(&behind);
        let (early, unread) = connect(&answer).map_err(|cause| TestCaseError::fail(cause.message))?;
        prop_assert!(early.len() <= 8192);
        prop_assert_eq!([early, unread].concat(), behind);
    }

    #[test]
    fn a_reply_is_read_to_its_last_byte_and_not_beyond(
        address in prop_oneof![
            vec(any::<u8>(), 4).prop_map(|v4| [vec![1], v4].concat()),
            vec(any::<u8>(), 16).prop_map(|v6| [vec![4], v6].concat()),
            vec(any::<u8>(), 0..=255).prop_map(|name| [vec![3, name.len() as u8], name].concat()),
        ],
        behind in vec(any::<u8>(), 0..50),
    ) {
        let reply = [vec![5, 0, 5, 0, 0], address, vec![0, 80]].concat();
        for cut in 0..reply.len() {
            let cause = socks(&reply[..cut], None).expect_err("a part of a reply is no reply");
            prop_assert_eq!((cause.fault, cause.blame), (Fault::Closed, Some(Blame::Node)));
        }
        let unread = socks(&[reply, behind.clone()].concat(), None).map_err(|cause| TestCaseError::fail(cause.message))?;
        prop_assert_eq!(unread, behind);
    }
}
