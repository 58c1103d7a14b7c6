//! An endpoint on trial must not be kept out because its one trial was given up.

use std::time::Duration;

use handover_client::{CircuitParts, CircuitPolicy, CircuitState, Client, Policy};
use handover_testkit::{Act, Answer, Gate, Origin, bounded};

#[tokio::test]
async fn a_trial_that_its_caller_gives_up_makes_room_for_the_next() {
    bounded(async {
        let is_well = Gate::new();
        let well = is_well.clone();
        let origin = Origin::scripted(move |arrival| match arrival.head.target() {
            "/hang" => Act::Hang,
            _ if well.is_open() => Act::Answer(Answer::ok("well")),
            _ => Act::Answer(Answer::status(500, "ill")),
        })
        .await;
        let shed = Duration::from_millis(20);
        let parts = CircuitParts { failures: 2, shed, shed_cap: Duration::from_secs(3600), ..CircuitParts::default() };
        let circuit = CircuitPolicy::try_new(parts).expect("valid");
        let spare = Origin::answering("spare").await;
        let endpoints = [origin.url(), spare.url()];
        let builder = Client::builder().endpoints(&endpoints).policy(Policy::rotation()).no_proxy();
        let client = builder.circuit(Some(circuit)).build().expect("valid");
        for _ in 0..2 {
            assert_eq!(client.get("/").send().await.expect("answered").text().await.expect("whole"), "spare");
        }
        let state = || client.endpoints()[0].circuit;
        assert_ne!(state(), CircuitState::Admitting);
        while state() != CircuitState::Probing {
            tokio::task::yield_now().await;
        }
        // The trial hangs, and its caller leaves.
        let hanging = client.get("/hang").send();
        assert!(tokio::time::timeout(Duration::from_millis(50), hanging).await.is_err());
        is_well.open();
        // Had the trial not been taken back, the spare would be used for an hour.
        assert_eq!(client.get("/").send().await.expect("answered").text().await.expect("whole"), "well");
        assert_eq!(state(), CircuitState::Admitting);
    })
    .await;
}
