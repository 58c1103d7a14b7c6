//! Hedged dials under load, and what becomes of an endpoint that lost by its TLS.

use std::time::Duration;

use handover_client::{Client, ClientBuilder, Fault, Policy, Stage};
use handover_testkit::{Act, Answer, Authority, BlackholePort, Greeting, Origin, bounded};

fn builder<E: AsRef<str>>(endpoints: impl IntoIterator<Item = E>) -> ClientBuilder {
    Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy()
}

#[tokio::test]
async fn a_blackholed_first_endpoint_fails_no_request_of_many_at_once() {
    bounded(async {
        let (hole, good) = (BlackholePort::new().await, Origin::answering("yes").await);
        let client = builder([format!("http://{}", hole.addr()), good.url()]).connect_timeout(Duration::from_secs(1));
        let client = client.build().expect("valid");
        // Far more than the default budget has hedges in store.
        let calls: Vec<_> = (0..300).map(|_| tokio::spawn(client.get("/").send())).collect();
        let mut unhedged = 0;
        for call in calls {
            let answer = call.await.expect("no panic").unwrap_or_else(|error| panic!("{error}"));
            unhedged += usize::from(answer.record().core().hedges_refused > 0);
            assert_eq!(answer.text().await.expect("whole"), "yes");
        }
        assert!(unhedged > 0, "the budget was too small for all, which is the matter here");
        assert_eq!(good.request_count(), 300);
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_tls_lost_the_race_is_asked_when_the_winner_fails() {
    bounded(async {
        let authority = Authority::new();
        // Its first connection falls silent before TLS stands, and so loses; its second is served.
        let slow = Origin::builder().script(|_| Act::Answer(Answer::ok("yes")));
        let slow = slow.greeting(|number| if number == 0 { Greeting::Hang } else { Greeting::Serve });
        let slow = slow.tls(authority.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let failing = Origin::scripted(|_| Act::Answer(Answer::status(503, "no"))).await;
        let client = builder([slow.url().replace("http:", "https:"), failing.url()]);
        let client = client.ca_certificate_file(authority.file()).build().expect("valid");
        let answer = client.get("/").send().await.expect("answered");
        let told: Vec<_> = answer.record().attempts().map(|one| (one.stage(), one.fault(), one.status())).collect();
        assert_eq!(told[0], (Stage::Tls, Some(Fault::LostRace), None), "{:?}", answer.record());
        assert_eq!((told[1].2, answer.status().as_u16()), (Some(503), 200), "{:?}", answer.record());
        assert_eq!((failing.request_count(), slow.request_count()), (1, 1));
    })
    .await;
}
