//! Every word that is written can be read back, and is the glossary's.

use handover_core::{BackoffBetween, Blame, BodyLeft, Failure, Fate, Fault, Order, Outcome, Pool, Replay, Sent, Stage};

macro_rules! read_back {
    ($($name:ident: $words:literal;)+) => { $(
        let words: Vec<_> = $name::ALL.iter().map(|value| value.as_str()).collect();
        assert_eq!(words.join(" "), $words);
        for &value in $name::ALL {
            assert_eq!($name::parse(value.as_str()), Some(value));
            assert_eq!(value.to_string(), value.as_str());
        }
        assert_eq!($name::parse("Something"), None);
    )+ };
}

#[test]
fn every_word_reads_back() {
    read_back! {
        Stage: "resolve dial proxy_handshake tls send await_head body tunnel";
        Sent: "no maybe yes";
        Blame: "node target client local";
        BodyLeft: "whole consumed";
        Replay: "unsent idempotent always";
        Order: "priority fastest spread affine sticky";
        BackoffBetween: "same_endpoint every_attempt";
        Pool: "untried shedding again same";
        Fate: "not_sent unknown answered";
    }
}

const FAULTS: [(Fault, &str, Option<Blame>); 15] = [
    (Fault::Refused, "refused", Some(Blame::Node)),
    (Fault::Timeout, "timeout", Some(Blame::Node)),
    (Fault::Reset, "reset", Some(Blame::Node)),
    (Fault::Dns, "dns", Some(Blame::Node)),
    (Fault::Unreachable, "unreachable", Some(Blame::Node)),
    (Fault::Tls, "tls", Some(Blame::Node)),
    (Fault::ProxyAuth, "proxy_auth", Some(Blame::Node)),
    (Fault::ProxyRefused, "proxy_refused", Some(Blame::Target)),
    (Fault::Protocol, "protocol", Some(Blame::Node)),
    (Fault::Closed, "closed", Some(Blame::Node)),
    (Fault::Status(503), "status(503)", Some(Blame::Node)),
    (Fault::Cancelled, "cancelled", None),
    (Fault::LostRace, "lost_race", None),
    (Fault::Denied, "denied", Some(Blame::Client)),
    (Fault::Local, "local", Some(Blame::Local)),
];

#[test]
fn every_fault_reads_back_and_blames_whom_it_should() {
    for (fault, word, blame) in FAULTS {
        assert_eq!(fault.to_string(), word);
        assert_eq!(Fault::parse(word), Some(fault));
        assert_eq!(fault.blame(), blame, "{word}");
    }
    assert_eq!(Fault::Status(503).as_str(), "status");
    for word in ["status", "status()", "status(x)", "status(70000)", "Refused", ""] {
        assert_eq!(Fault::parse(word), None, "{word}");
    }
}

#[test]
fn an_outcome_says_what_is_proven_and_left() {
    let answered = Outcome::Answered { status: 200, retry_after: None, body: BodyLeft::Consumed };
    assert_eq!((answered.as_str(), answered.sent(), answered.body()), ("answered", Sent::Yes, BodyLeft::Consumed));
    assert!(answered.is_answered() && !answered.is_lost_race());
    let lost = Outcome::Failed(Failure::before_send(Stage::Tls, Fault::LostRace));
    assert_eq!((lost.as_str(), lost.sent(), lost.body()), ("failed", Sent::No, BodyLeft::Whole));
    assert!(!lost.is_answered() && lost.is_lost_race());
}
