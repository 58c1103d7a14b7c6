//! What is not spent and not held against anybody: being offline, an endpoint that is dead, and the budget of repeats and
//! hedged dials.

use std::time::Duration;

use handover_client::{
    CircuitParts, CircuitPolicy, CircuitState, Client, ClientBuilder, Fault, Policy, Reason, TokenBucket, Verdict,
};
use handover_testkit::{Act, Answer, BlackholePort, DeadPort, Origin, bounded};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

/// Sheds after two failures, for half a minute.
fn circuit() -> CircuitPolicy {
    let shed = Duration::from_secs(30);
    CircuitPolicy::try_new(CircuitParts { failures: 2, shed, ..CircuitParts::default() }).expect("valid")
}

fn states(client: &Client) -> Vec<CircuitState> {
    client.endpoints().iter().map(|endpoint| endpoint.circuit).collect()
}

#[tokio::test]
async fn being_offline_marks_nobody_and_spends_nothing() {
    bounded(async {
        // A reserve of ten, and nothing comes in.
        let budget = TokenBucket::try_new(0, 1, Duration::from_secs(10)).expect("valid");
        // A name that never resolves (RFC 6761), and an address that no connection leads to.
        let client = builder(["http://a.invalid", "http://224.0.0.1"]).circuit(Some(circuit()));
        let client = client.budget(Some(budget)).build().expect("valid");
        let before = client.budget_available();
        for _ in 0..4 {
            let error = client.get("/").send().await.expect_err("there is no network");
            let faults: Vec<_> =
                error.record().expect("tried").attempts().filter_map(|attempt| attempt.fault()).collect();
            assert_eq!(faults, [Fault::Dns, Fault::Unreachable], "{error}");
            assert!(error.is_not_sent() && error.is_connect());
        }
        assert_eq!(states(&client), [CircuitState::Admitting; 2]);
        assert_eq!((before, client.budget_available()), (Some(10), Some(10)));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_resolve_is_marked_where_the_network_is_there() {
    bounded(async {
        let two = Origin::answering("yes").await;
        let client = builder(["http://a.invalid".to_owned(), two.url()]).circuit(Some(circuit()));
        let client = client.build().expect("valid");
        for expected in [2, 2, 1] {
            let answer = client.get("/").send().await.expect("answered");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, expected));
        }
        assert_eq!(states(&client), [CircuitState::Shedding, CircuitState::Admitting]);
    })
    .await;
}

#[tokio::test]
async fn one_budget_pays_for_repeats_and_for_hedges() {
    bounded(async {
        let hole = BlackholePort::new().await;
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(500, "no"))).await;
        let good = Origin::answering("yes").await;
        // Two in all: a reserve of ten, less eight.
        let budget = TokenBucket::try_new(0, 1, Duration::from_secs(10)).expect("valid");
        for _ in 0..8 {
            assert!(budget.try_take_at(Duration::ZERO));
        }
        let client = builder([format!("http://{}", hole.addr()), failing.url(), good.url()]);
        let client = client.budget(Some(budget)).build().expect("valid");
        assert_eq!(client.budget_available(), Some(2));
        // One hedge away from the hole, one repeat behind the 500.
        let answer = client.get("/").send().await.expect("answered");
        assert_eq!((answer.status().as_u16(), client.budget_available()), (200, Some(0)));
        // No hedge any more, and no time for what would follow the dial.
        let error = client.get("/").timeout(ms(600)).send().await.expect_err("nothing but the hole");
        let record = error.record().expect("tried").core();
        assert_eq!((record.attempts.iter().count(), record.hedges_refused), (1, 1), "{error}");
        assert_eq!((failing.request_count(), good.request_count()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_dead_first_endpoint_takes_nothing_from_the_budget() {
    bounded(async {
        let (dead, good) = (DeadPort::new(), Origin::answering("yes").await);
        let budget = TokenBucket::try_new(0, 0, Duration::from_secs(10)).expect("valid");
        let client =
            builder([format!("http://{}", dead.addr()), good.url()]).budget(Some(budget)).build().expect("valid");
        for _ in 0..30 {
            let answer = client.get("/").send().await.expect("answered by the second");
            assert_eq!((answer.status().as_u16(), answer.record().attempts().count()), (200, 2));
        }
        assert_eq!((good.request_count(), client.budget_available()), (30, Some(0)));
    })
    .await;
}

#[tokio::test]
async fn a_hedge_that_the_budget_refuses_ends_no_request() {
    bounded(async {
        let (hole, good) = (BlackholePort::new().await, Origin::answering("yes").await);
        let budget = TokenBucket::try_new(0, 0, Duration::from_secs(10)).expect("valid");
        let client = builder([format!("http://{}", hole.addr()), good.url()]).budget(Some(budget));
        let client = client.connect_timeout(ms(600)).build().expect("valid");
        let answer = client.get("/").send().await.expect("answered when the dial has been given up");
        let record = answer.record().core();
        assert_eq!((answer.status().as_u16(), record.attempts.len(), record.hedges_refused), (200, 2, 1));
    })
    .await;
}

#[tokio::test]
async fn an_empty_budget_ends_with_the_answer_that_there_is() {
    bounded(async {
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(500, "no"))).await;
        let good = Origin::answering("yes").await;
        let budget = TokenBucket::try_new(0, 0, Duration::from_secs(10)).expect("valid");
        let client = builder([failing.url(), good.url()]).budget(Some(budget)).build().expect("valid");
        let answer = client.get("/").send().await.expect("the 500");
        assert_eq!((answer.status().as_u16(), good.request_count()), (500, 0));
        assert_eq!(answer.record().verdict(), Some(Verdict::Done(Reason::BudgetEmpty)));
    })
    .await;
}
