//! Who watches: what spans, figures and observers are told, and that none of them changes an outcome.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handover_client::{AttemptBegan, AttemptOver, Client, ClientBuilder, Fate, Observer, Policy, RequestOver};
use handover_testkit::{Act, Answer, DeadPort, Origin, bounded};

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Diary {
    fn attempt_began(&self, attempt: &AttemptBegan<'_>) {
        self.note(format!("{} {} began", attempt.method, attempt.number));
    }

    fn attempt_over(&self, over: &AttemptOver<'_>) {
        let attempt = over.attempt;
        self.note(format!("{} {}", attempt.number(), attempt.verdict()));
    }

    fn request_over(&self, request: &RequestOver<'_>) {
        self.note(format!("{:?} {}", request.path_template, request.record.fate().as_str()));
    }
}

#[tokio::test]
async fn an_observer_is_told_of_each_attempt_once_also_of_those_given_up() {
    bounded(async {
        let (dead, origin) = (
            DeadPort::new(),
            Origin::scripted(|arrival| match arrival.head.target() {
                "/hang" => Act::Hang,
                _ => Act::Answer(Answer::ok("hello")),
            })
            .await,
        );
        let diary = Diary::default();
        let endpoints = [format!("http://{}", dead.addr()), origin.url()];
        let client = builder(endpoints).observer(diary.clone()).build().expect("valid");
        client.get("/x").path_template("/{key}").send().await.expect("answered");
        let told =
            ["GET 1 began", "1 try_next(not_sent)", "GET 2 began", "2 done(answered)", "Some(\"/{key}\") answered"];
        assert_eq!(diary.lines(), told);
        let given_up = tokio::time::timeout(Duration::from_millis(200), client.get("/hang").send()).await;
        assert!(given_up.is_err());
        let told = ["GET 1 began", "1 try_next(not_sent)", "GET 2 began", "2 stop(cancelled)", "None unknown"];
        assert_eq!(diary.lines()[5..], told);
    })
    .await;
}

/// Panics whenever it is asked, and once more when what it threw is dropped.
struct Panics;

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

impl Observer for Panics {
    fn attempt_began(&self, _: &AttemptBegan<'_>) {
        std::panic::panic_any(Bomb);
    }

    fn attempt_over(&self, _: &AttemptOver<'_>) {
        std::panic::panic_any(Bomb);
    }

    fn request_over(&self, _: &RequestOver<'_>) {
        std::panic::panic_any(Bomb);
    }
}

#[tokio::test]
async fn an_observer_that_panics_changes_no_outcome_and_silences_no_other() {
    bounded(async {
        let (dead, origin) = (
            DeadPort::new(),
            Origin::scripted(|arrival| match arrival.head.target() {
                "/hang" => Act::Hang,
                _ => Act::Answer(Answer::ok("hello")),
            })
            .await,
        );
        let diary = Diary::default();
        let endpoints = [format!("http://{}", dead.addr()), origin.url()];
        let client = builder(endpoints).observer(Panics).observer(diary.clone()).build().expect("valid");
        let answer = client.post("/").body("x").send().await.expect("answered");
        assert_eq!((answer.record().fate(), answer.record().attempts().count()), (Fate::Answered, 2));
        assert_eq!(answer.text().await.expect("whole"), "hello");
        assert_eq!(diary.lines().len(), 5);
        // Given up by its caller: the observers are told where the request is dropped.
        let given_up = tokio::time::timeout(Duration::from_millis(200), client.get("/hang").send()).await;
        assert!(given_up.is_err());
        assert_eq!(diary.lines().len(), 10);
        // And while another panic goes through the task.
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = client.get("/hang").send() => {}
                () = tokio::time::sleep(Duration::from_millis(200)) => panic!("the caller's own"),
            }
        });
        assert!(task.await.expect_err("it panicked").is_panic());
        assert_eq!(diary.lines().len(), 15);
    })
    .await;
}

/// What was written into a subscriber's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn spans_have_the_conventions_names_and_neither_query_nor_credentials() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::scripted(|_| Act::Answer(Answer::status(404, "no"))).await);
        let secret = format!("http://me:pa55@{}", origin.addr());
        let client = builder([format!("http://{}", dead.addr()), secret]).build().expect("valid");
        let request = client.get("/kv/x?token=qu3ry").path_template("/kv/{key}").bearer_auth("b3arer");
        request.send().await.expect("answered");
        let text = String::from_utf8(log.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("text");
        for secret in ["pa55", "qu3ry", "b3arer", "token"] {
            assert!(!text.contains(secret), "{text}");
        }
        let spans: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let spans: Vec<_> =
            spans.iter().filter(|span| span["target"] == "handover_client").map(|s| &s["span"]).collect();
        assert_eq!(
            spans.iter().map(|span| span["name"].as_str()).collect::<Vec<_>>(),
            [Some("attempt"), Some("attempt"), Some("request")]
        );
        let [first, second, request] = [spans[0], spans[1], spans[2]];
        assert_eq!((&first["error.type"], &first["handover.sent"]), (&"refused".into(), &"no".into()), "{first}");
        assert_eq!((&first["server.port"], first.get("http.request.resend_count")), (&dead.addr().port().into(), None));
        for (name, value) in [
            ("otel.name", "GET /kv/{key}".into()),
            ("otel.kind", "client".into()),
            ("otel.status_code", "ERROR".into()),
            ("http.request.method", "GET".into()),
            ("url.scheme", "http".into()),
            ("url.template", "/kv/{key}".into()),
            ("server.address", "127.0.0.1".into()),
            ("server.port", serde_json::json!(origin.addr().port())),
            ("network.peer.address", "127.0.0.1".into()),
            ("network.peer.port", serde_json::json!(origin.addr().port())),
            ("http.request.resend_count", 1.into()),
            ("http.response.status_code", 404.into()),
            ("error.type", "404".into()),
            ("handover.verdict", "done".into()),
        ] {
            assert_eq!(second[name], value, "{name}: {second}");
        }
        assert_eq!((&request["handover.fate"], &request["handover.attempts"]), (&"answered".into(), &2.into()));
    })
    .await;
}

#[cfg(feature = "metrics")]
mod figures {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU64;

    use handover_client::TokenBucket;
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// Counts by name and labels.
    #[derive(Default)]
    struct Counts(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Counts {
        fn at(&self, key: &Key) -> Arc<AtomicU64> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{}{{{}}}", key.name().trim_start_matches("handover_client_"), labels.join(","));
            Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default())
        }

        fn all(&self) -> BTreeMap<String, u64> {
            let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counts.iter().map(|(name, n)| (name.clone(), n.load(std::sync::atomic::Ordering::Relaxed))).collect()
        }
    }

    impl Recorder for Counts {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.at(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.at(key))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn figures_tell_of_requests_attempts_failovers_and_the_budget() {
        let counts = Counts::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let names = metrics::with_local_recorder(&counts, || runtime.block_on(bounded(three_requests())));
        let [dead, failing, origin] = names;
        let all = counts.all();
        for (name, count) in [
            ("requests_total{method=POST,template=/{key},fate=answered}".to_owned(), 1),
            ("requests_total{method=_OTHER,template=,fate=not_sent}".to_owned(), 1),
            ("requests_total{method=GET,template=,fate=answered}".to_owned(), 1),
            (format!("attempts_total{{endpoint={dead},result=refused,sent=no}}"), 3),
            (format!("attempts_total{{endpoint={failing},result=503,sent=yes}}"), 2),
            (format!("attempts_total{{endpoint={origin},result=200,sent=yes}}"), 1),
            (format!("failovers_total{{method=POST,from={dead},to={failing}}}"), 1),
            (format!("failovers_total{{method=POST,from={failing},to={origin}}}"), 1),
            (format!("not_sent_total{{endpoint={dead},stage=dial}}"), 3),
            ("budget_refusals_total{}".to_owned(), 1),
            ("budget_available{}".to_owned(), 0.0_f64.to_bits()),
        ] {
            assert_eq!(all.get(&name), Some(&count), "{name}: {all:#?}");
        }
    }

    /// One that fails over with all that the budget has, one for which nothing is left, and one that does not fail over.
    async fn three_requests() -> [String; 3] {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await;
        let names = [format!("http://{}", dead.addr()), failing.url(), origin.url()];
        let budget = TokenBucket::try_new(0, 1, Duration::from_secs(1)).expect("valid");
        let client = builder(&names).budget(Some(budget)).build().expect("valid");
        client.post("/x").path_template("/{key}").send().await.expect("answered");
        assert_eq!(client.get("/x").send().await.expect("the budget is empty").status(), 503);
        let odd = http::Method::from_bytes(b"ODD").expect("a token");
        client.request(odd, "/x").no_failover().send().await.expect_err("the first one is dead");
        names
    }
}
