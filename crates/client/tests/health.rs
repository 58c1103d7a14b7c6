//! What is remembered of endpoints: circuits, probes, elections and failback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use handover_client::{
    CircuitParts, CircuitPolicy, CircuitState, Client, ClientBuilder, FailbackParts, FailbackPolicy, Observer, Order,
    Policy, PolicyParts, Probe, RequestOver, TokenBucket,
};
use handover_testkit::{Act, Answer, Gate, Origin, bounded};
use tokio::time::{Instant, sleep};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn ordered(order: Order) -> Policy {
    let parts = PolicyParts { order, ..*Policy::rotation().parts() };
    Policy::try_new(parts).expect("valid")
}

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>, order: Order) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(ordered(order)).no_proxy()
}

/// Sheds after two failures, for 150 to 300 ms.
fn circuit() -> CircuitPolicy {
    let parts = CircuitParts { failures: 2, shed: ms(300), shed_cap: ms(300), ..CircuitParts::default() };
    CircuitPolicy::try_new(parts).expect("valid")
}

fn failback(grace: Duration, switches_per_minute: u32) -> FailbackPolicy {
    let parts = FailbackParts { grace, switches_per_minute, ..FailbackParts::default() };
    FailbackPolicy::try_new(parts).expect("valid")
}

/// An origin that fails as long as it is told to, and its switch. A probe takes `slow` longer.
struct Server {
    origin: Origin,
    fails: Arc<AtomicBool>,
    probes: Arc<AtomicUsize>,
}

impl Server {
    async fn start(slow: Duration) -> Self {
        let (fails, probes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_failing, count) = (Arc::clone(&fails), Arc::clone(&probes));
        let origin = Origin::scripted(move |arrival| {
            let mut answer =
                if is_failing.load(Ordering::SeqCst) { Answer::status(500, "no") } else { Answer::ok("yes") };
            if arrival.head.target() == "/probe" {
                count.fetch_add(1, Ordering::SeqCst);
                if !slow.is_zero() {
                    let gate = Gate::new();
                    answer = answer.held_by(&gate);
                    tokio::spawn(async move {
                        sleep(slow).await;
                        gate.open();
                    });
                }
            }
            Act::Answer(answer)
        })
        .await;
        Self { origin, fails, probes }
    }

    fn fails(&self, does: bool) {
        self.fails.store(does, Ordering::SeqCst);
    }
}

async fn pair() -> (Server, Server) {
    (Server::start(Duration::ZERO).await, Server::start(Duration::ZERO).await)
}

fn states(client: &Client) -> Vec<CircuitState> {
    client.endpoints().iter().map(|endpoint| endpoint.circuit).collect()
}

fn elected(client: &Client) -> Option<usize> {
    client.endpoints().iter().position(|endpoint| endpoint.is_elected)
}

/// Waits until this holds of the client.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        sleep(ms(5)).await;
    }
}

/// Which endpoint served, and after how many attempts.
async fn get(client: &Client) -> (usize, usize) {
    let answer = client.get("/").send().await.expect("answered");
    let served =
        client.endpoints().iter().position(|endpoint| endpoint.url == *answer.endpoint()).expect("one of them");
    (served, answer.record().attempts().count())
}

#[tokio::test]
async fn one_failure_sheds_nobody_failures_in_a_row_do_and_a_trial_admits_again() {
    use CircuitState::{Admitting, Probing, Shedding};
    bounded(async {
        let (one, two) = pair().await;
        let client = builder([one.origin.url(), two.origin.url()], Order::Priority).circuit(Some(circuit()));
        let client = client.build().expect("valid");
        one.fails(true);
        assert_eq!(get(&client).await, (1, 2));
        assert_eq!(states(&client), [Admitting, Admitting], "one failure sheds nobody");
        one.fails(false);
        assert_eq!(get(&client).await, (0, 1));
        one.fails(true);
        assert_eq!((get(&client).await, states(&client)[0]), ((1, 2), Admitting), "a success in between forgives");
        assert_eq!((get(&client).await, states(&client)[0]), ((1, 2), Shedding));
        assert_eq!(get(&client).await, (1, 1), "it gets no traffic");
        until(|| states(&client)[0] == Probing).await;
        // The trial fails: it sheds again. The next one goes well.
        assert_eq!((get(&client).await, states(&client)[0]), ((1, 2), Shedding));
        one.fails(false);
        until(|| states(&client)[0] == Probing).await;
        assert_eq!((get(&client).await, states(&client)[0]), ((0, 1), Admitting));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_sheds_serves_where_there_is_no_other() {
    bounded(async {
        let one = Server::start(Duration::ZERO).await;
        let client = builder([one.origin.url()], Order::Priority).circuit(Some(circuit())).build().expect("valid");
        one.fails(true);
        for _ in 0..2 {
            assert_eq!(client.get("/").send().await.expect("answered").status(), 500);
        }
        assert_eq!(states(&client), [CircuitState::Shedding]);
        one.fails(false);
        assert_eq!(client.get("/").send().await.expect("answered").status(), 200);
        assert_eq!(states(&client), [CircuitState::Admitting]);
    })
    .await;
}

#[tokio::test]
async fn one_trial_at_a_time_and_a_caller_who_leaves_it_gives_it_back() {
    bounded(async {
        let (fails, gate) = (Arc::new(AtomicBool::new(true)), Gate::new());
        let (is_failing, held) = (Arc::clone(&fails), gate.clone());
        let one = Origin::scripted(move |_| {
            let is_failing = is_failing.load(Ordering::SeqCst);
            Act::Answer(if is_failing { Answer::status(500, "no") } else { Answer::ok("yes").held_by(&held) })
        })
        .await;
        let two = Origin::answering("yes").await;
        // A trial of which nothing is heard would be over after 20 s only.
        let parts =
            CircuitParts { failures: 2, shed: ms(50), shed_cap: Duration::from_secs(20), ..CircuitParts::default() };
        let policy = CircuitPolicy::try_new(parts).expect("valid");
        let client = builder([one.url(), two.url()], Order::Priority).circuit(Some(policy)).build().expect("valid");
        for _ in 0..2 {
            get(&client).await;
        }
        fails.store(false, Ordering::SeqCst);
        until(|| states(&client)[0] == CircuitState::Probing).await;
        let trial = tokio::spawn(client.get("/").send());
        one.ledger().until(|seen| seen.iter().map(|connection| connection.requests.len()).sum::<usize>() == 3).await;
        assert_eq!(get(&client).await, (1, 1), "one trial is under way");
        trial.abort();
        assert!(trial.await.expect_err("given up").is_cancelled());
        gate.open();
        assert_eq!((get(&client).await, states(&client)[0]), ((0, 1), CircuitState::Admitting));
    })
    .await;
}

#[tokio::test]
async fn the_fastest_is_elected_after_the_probes() {
    bounded(async {
        let (slow, fast) = (Server::start(ms(150)).await, Server::start(Duration::ZERO).await);
        let client = builder([slow.origin.url(), fast.origin.url()], Order::Fastest);
        let client = client.probe(Probe::get("/probe").interval(ms(200))).build().expect("valid");
        assert_eq!(get(&client).await, (0, 1), "nothing is measured yet");
        until(|| client.endpoints().iter().all(|endpoint| endpoint.latency.is_some())).await;
        until(|| elected(&client) == Some(1)).await;
        assert_eq!(get(&client).await, (1, 1));
        let status = client.endpoints();
        assert!(status[0].latency >= Some(ms(150)) && status[1].latency < status[0].latency, "{status:?}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_fails_fast_is_not_elected() {
    bounded(async {
        let (slow, failing) = (Server::start(ms(50)).await, Server::start(Duration::ZERO).await);
        failing.fails(true);
        // Without a probe of the caller's the client asks by itself.
        for probe in [Some(Probe::get("/probe").interval(ms(100))), None] {
            let client = builder([failing.origin.url(), slow.origin.url()], Order::Fastest);
            let client = match probe {
                Some(probe) => client.probe(probe),
                None => client,
            };
            let client = client.build().expect("valid");
            get(&client).await;
            until(|| elected(&client).is_some()).await;
            assert_eq!((elected(&client), get(&client).await), (Some(1), (1, 1)));
            assert_eq!(client.endpoints()[0].latency, None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_probe_wants_what_it_expects_of_the_body() {
    bounded(async {
        let wrong = Origin::answering(r#"{"status":"starting"}"#).await;
        let cut = Origin::scripted(|_| Act::Answer(Answer::ok("x").cut_after(60, handover_testkit::End::Fin))).await;
        let right = Origin::answering(r#"{"status":"success"}"#).await;
        let client = builder([wrong.url(), cut.url(), right.url()], Order::Fastest);
        let probe = Probe::get("/check").interval(ms(100)).expect("/status", "success");
        let client = client.probe(probe).circuit(Some(circuit())).build().expect("valid");
        get(&client).await;
        until(|| elected(&client) == Some(2)).await;
        // A probe that fails counts once, and its answer's status does not speak for the endpoint.
        until(|| states(&client)[0] != CircuitState::Admitting && states(&client)[1] != CircuitState::Admitting).await;
        assert_eq!(states(&client)[2], CircuitState::Admitting);
    })
    .await;
}

#[tokio::test]
async fn a_probe_that_fails_is_one_failure() {
    bounded(async {
        let probes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&probes);
        let one = Origin::scripted(move |arrival| {
            if arrival.head.target() != "/probe" {
                return Act::Answer(Answer::ok("yes"));
            }
            count.fetch_add(1, Ordering::SeqCst);
            Act::Answer(Answer::status(500, "no"))
        })
        .await;
        let parts = CircuitParts { failures: 3, ..CircuitParts::default() };
        let policy = CircuitPolicy::try_new(parts).expect("valid");
        let client = builder([one.url()], Order::Fastest).circuit(Some(policy));
        let client = client.probe(Probe::get("/probe").interval(ms(300))).build().expect("valid");
        get(&client).await;
        until(|| states(&client)[0] != CircuitState::Admitting).await;
        assert!(probes.load(Ordering::SeqCst) >= 3);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_sheds_is_probed_as_soon_as_its_time_is_over() {
    bounded(async {
        let one = Server::start(Duration::ZERO).await;
        one.fails(true);
        let client = builder([one.origin.url()], Order::Sticky).circuit(Some(circuit()));
        let client = client.probe(Probe::get("/probe").interval(Duration::from_secs(600))).build().expect("valid");
        for _ in 0..2 {
            client.get("/").send().await.expect("answered");
        }
        until(|| states(&client)[0] == CircuitState::Shedding).await;
        one.fails(false);
        // Nobody asks but the probe, whose next round is ten minutes away.
        until(|| states(&client)[0] == CircuitState::Admitting).await;
    })
    .await;
}

#[tokio::test]
async fn traffic_goes_back_to_the_first_under_steady_traffic_after_the_grace() {
    bounded(async {
        let (one, two) = pair().await;
        let grace = ms(600);
        let client = builder([one.origin.url(), two.origin.url()], Order::Sticky).failback(failback(grace, 60));
        let client = client.probe(Probe::get("/probe").interval(ms(100))).build().expect("valid");
        get(&client).await;
        until(|| elected(&client) == Some(0)).await;
        one.fails(true);
        until(|| elected(&client) == Some(1)).await;
        one.fails(false);
        let back = Instant::now();
        // Each success renews nothing.
        while elected(&client) == Some(1) {
            assert_eq!(get(&client).await, (1, 1));
            sleep(ms(5)).await;
        }
        assert!(back.elapsed() >= grace, "{:?}", back.elapsed());
        assert_eq!(get(&client).await, (0, 1));
    })
    .await;
}

#[tokio::test]
async fn there_are_no_more_switches_back_than_the_cap_and_always_one_away_from_a_dead_endpoint() {
    bounded(async {
        let (one, two) = pair().await;
        let client = builder([one.origin.url(), two.origin.url()], Order::Sticky).failback(failback(Duration::ZERO, 1));
        let client = client.probe(Probe::get("/probe").interval(ms(100))).build().expect("valid");
        get(&client).await;
        until(|| elected(&client) == Some(0)).await;
        one.fails(true);
        until(|| elected(&client) == Some(1)).await;
        one.fails(false);
        // It is good again, and nobody goes back: one switch was in this minute.
        let probes = one.probes.load(Ordering::SeqCst);
        until(|| one.probes.load(Ordering::SeqCst) >= probes + 4).await;
        assert_eq!((elected(&client), get(&client).await), (Some(1), (1, 1)));
        two.fails(true);
        until(|| elected(&client) == Some(0)).await;
        assert_eq!(get(&client).await, (0, 1));
    })
    .await;
}

#[tokio::test]
async fn sticky_stays_with_the_one_that_served_last() {
    bounded(async {
        let (one, two) = pair().await;
        let client = builder([one.origin.url(), two.origin.url()], Order::Sticky).build().expect("valid");
        assert_eq!(get(&client).await, (0, 1));
        one.fails(true);
        assert_eq!(get(&client).await, (1, 2));
        one.fails(false);
        for _ in 0..3 {
            assert_eq!(get(&client).await, (1, 1), "the first is not asked again by chance");
        }
        two.fails(true);
        assert_eq!(get(&client).await, (0, 2));
        two.fails(false);
        assert_eq!(get(&client).await, (0, 1));
    })
    .await;
}

/// Counts what it is shown.
struct Counts(Arc<AtomicUsize>);

impl Observer for Counts {
    fn request_over(&self, _: &RequestOver<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn probes_are_no_requests_and_end_with_the_client() {
    bounded(async {
        let one = Server::start(Duration::ZERO).await;
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let seen = Arc::new(AtomicUsize::new(0));
        // Each request would pay for a whole attempt.
        let budget = TokenBucket::try_new(100, 0, Duration::from_secs(600)).expect("valid");
        let client =
            builder([one.origin.url()], Order::Fastest).budget(Some(budget)).observer(Counts(Arc::clone(&seen)));
        let client = client.probe(Probe::get("/probe").interval(ms(100))).build().expect("valid");
        get(&client).await;
        until(|| one.probes.load(Ordering::SeqCst) >= 4).await;
        assert_eq!((seen.load(Ordering::SeqCst), client.budget_available()), (1, Some(1)));
        assert!(tasks() > before, "the prober runs");
        drop(client);
        // Neither the prober nor a connection of the client is left.
        until(|| tasks() == before).await;
        assert!(one.origin.connections().iter().all(|connection| connection.ended));
    })
    .await;
}

#[tokio::test]
async fn spread_asks_all_and_the_next_one_goes_where_less_is_under_way() {
    bounded(async {
        let gate = Gate::new();
        let start = |held: Gate| Origin::scripted(move |_| Act::Answer(Answer::ok("yes").held_by(&held)));
        let (one, two) = (start(gate.clone()).await, start(gate.clone()).await);
        let client = builder([one.url(), two.url()], Order::Spread).build().expect("valid");
        let calls: Vec<_> = (0..40).map(|_| tokio::spawn(client.get("/").send())).collect();
        until(|| one.request_count() + two.request_count() == 40).await;
        assert_eq!((one.request_count(), two.request_count()), (20, 20));
        gate.open();
        for call in calls {
            call.await.expect("no panic").expect("answered");
        }
        // One by one they cost the same: chance decides, and hits one of two less than 11 times in a hundred never.
        for _ in 0..100 {
            get(&client).await;
        }
        assert!(
            one.request_count() > 30 && two.request_count() > 30,
            "{} {}",
            one.request_count(),
            two.request_count()
        );
    })
    .await;
}
