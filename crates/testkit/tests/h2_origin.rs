//! The HTTP/2 origin does what its scripts say and counts what it executes, seen from a client that shows every reset and GOAWAY.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Error, Reason};
use handover_testkit::{Authority, End, Gate, H2Act, H2Answer, H2Origin, Leave, bounded};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection of the client's, and how it ended.
struct Client {
    send: SendRequest<Bytes>,
    over: JoinHandle<Result<(), Error>>,
}

impl Client {
    async fn connect(origin: &H2Origin) -> Self {
        Self::over(TcpStream::connect(origin.addr()).await.expect("it listens")).await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = h2::client::handshake(io).await.expect("the client's half needs no answer");
        Self { send, over: tokio::spawn(connection) }
    }

    /// A POST with a body of three bytes.
    async fn post(&self, id: &str) -> Result<Response<h2::RecvStream>, Error> {
        let mut ready = self.send.clone().ready().await?;
        let request = Request::post("http://h/p").header("x-id", id).body(()).expect("the request is valid");
        let (response, mut body) = ready.send_request(request, false)?;
        body.send_data(Bytes::from_static(b"abc"), true)?;
        response.await
    }
}

fn reset_with(error: &Error) -> Option<Reason> {
    error.reason().filter(|_| error.is_reset() && error.is_remote())
}

#[tokio::test]
async fn an_answer_is_held_by_its_gate_after_the_request_was_executed() {
    bounded(async {
        let gate = Gate::new();
        let script_gate = gate.clone();
        let origin = H2Origin::scripted(move |arrival| {
            assert_eq!((arrival.stream, arrival.head.uri.path()), (1, "/p"));
            H2Act::Answer(H2Answer::status(201, "made").header("x-a", "b").held_by(&script_gate))
        })
        .await;
        let client = Client::connect(&origin).await;
        let answer = tokio::spawn(async move { client.post("one").await.unwrap() });
        origin.executions().until(1).await;
        assert!(!answer.is_finished());
        gate.open();
        let mut answer = answer.await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-a"]), (201, &"b".parse().unwrap()));
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "made");
        let seen = &origin.requests()[0];
        assert_eq!((seen.body.as_slice(), seen.complete, origin.executions().of("one")), (&b"abc"[..], true, 1));
    })
    .await;
}

#[tokio::test]
async fn a_reset_before_executing_executes_nothing_and_one_after_it_does() {
    bounded(async {
        let origin = H2Origin::scripted(|arrival| match arrival.request {
            0 => H2Act::Reset(Reason::REFUSED_STREAM),
            1 => H2Act::ExecuteThenReset(Reason::INTERNAL_ERROR),
            _ => H2Act::Answer(H2Answer::ok("")),
        })
        .await;
        let client = Client::connect(&origin).await;
        let refused = client.post("a").await.unwrap_err();
        assert_eq!(reset_with(&refused), Some(Reason::REFUSED_STREAM));
        let broken = client.post("b").await.unwrap_err();
        assert_eq!(reset_with(&broken), Some(Reason::INTERNAL_ERROR));
        assert_eq!(client.post("b").await.unwrap().status(), 200);
        let executions = origin.executions();
        assert_eq!((executions.of("a"), executions.of("b"), executions.total(), executions.ids()), (0, 2, 2, 1));
        assert_eq!(executions.repeated(), [("b".to_owned(), 2)]);
    })
    .await;
}

#[tokio::test]
async fn a_graceful_leave_answers_what_is_under_way_and_the_next_connection_is_served() {
    bounded(async {
        let gate = Gate::new();
        let script_gate = gate.clone();
        let origin = H2Origin::scripted(move |_| H2Act::Answer(H2Answer::ok("").held_by(&script_gate))).await;
        let client = Client::connect(&origin).await;
        let first = client.post("first");
        let leave = async {
            origin.executions().until(1).await;
            origin.leave(Leave::Graceful);
            gate.open();
        };
        assert_eq!(tokio::join!(first, leave).0.unwrap().status(), 200);
        client.over.await.unwrap().expect("GOAWAY with NO_ERROR is a clean end");
        assert_eq!(Client::connect(&origin).await.post("second").await.unwrap().status(), 200);
        assert_eq!(origin.accepted(), 2);
    })
    .await;
}

#[tokio::test]
async fn an_abrupt_leave_takes_the_connection_with_its_reason() {
    bounded(async {
        let origin = H2Origin::scripted(|_| {
            H2Act::Answer(H2Answer::ok("").held_by(&Gate::new()).leaving(Leave::Abrupt(Reason::ENHANCE_YOUR_CALM)))
        })
        .await;
        let client = Client::connect(&origin).await;
        // The stream is not above the last one that GOAWAY names, so only the connection's end tells the reason.
        client.post("one").await.unwrap_err();
        let gone = client.over.await.unwrap().unwrap_err();
        assert!(gone.is_go_away() && gone.is_remote(), "{gone:?}");
        assert_eq!((gone.reason(), origin.executions().of("one")), (Some(Reason::ENHANCE_YOUR_CALM), 1));
    })
    .await;
}

#[tokio::test]
async fn endings_reach_the_client_as_fin_or_reset_before_and_after_executing() {
    bounded(async {
        for (how, kind) in [(End::Fin, None), (End::Reset, Some(std::io::ErrorKind::ConnectionReset))] {
            for (act, executed) in [(H2Act::End(how), 0), (H2Act::ExecuteThenEnd(how), 1)] {
                let origin = H2Origin::scripted(move |_| act.clone()).await;
                let client = Client::connect(&origin).await;
                assert!(client.post("one").await.is_err());
                let end = client.over.await.unwrap();
                let seen = end.err().and_then(|error| error.get_io().map(std::io::Error::kind));
                assert!(kind.is_none_or(|kind| seen == Some(kind)), "{how:?} was seen as {seen:?}");
                assert!(how == End::Reset || seen != Some(std::io::ErrorKind::ConnectionReset));
                assert_eq!(origin.executions().total(), executed);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tls_with_h2_by_alpn_is_served() {
    bounded(async {
        let authority = Authority::new();
        let origin = H2Origin::builder().tls(authority.acceptor(&["127.0.0.1"], &["h2"])).start().await;
        assert!(origin.url().starts_with("https://127.0.0.1:"));
        let tcp = TcpStream::connect(origin.addr()).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let tls = authority.connector(&["h2", "http/1.1"]).connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(Client::over(tls).await.post("one").await.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test]
async fn two_hundred_at_once_are_each_executed_and_answered_while_the_connection_leaves() {
    bounded(async {
        let origin = H2Origin::scripted(|arrival| {
            let answer = H2Answer::ok("");
            H2Act::Answer(if arrival.request == 100 { answer.leaving(Leave::Graceful) } else { answer })
        })
        .await;
        let client = std::sync::Arc::new(Client::connect(&origin).await);
        let posts: Vec<_> = (0..200)
            .map(|id| {
                let client = std::sync::Arc::clone(&client);
                tokio::spawn(async move { client.post(&id.to_string()).await.is_ok() })
            })
            .collect();
        let mut answered = 0;
        for post in posts {
            answered += usize::from(post.await.unwrap());
        }
        // Those that the client had not sent when it learnt of the leave are the client's to send elsewhere.
        assert_eq!((origin.executions().total(), origin.executions().repeated()), (answered, Vec::new()));
        assert!(answered > 100, "{answered}");
    })
    .await;
}
