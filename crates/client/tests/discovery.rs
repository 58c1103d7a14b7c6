//! What goes over the wire when regions are asked for: the path as it was named, and nobody's credentials to strangers.

#![cfg(feature = "regions")]

use handover_client::{Client, Policy};
use handover_testkit::{Act, Answer, Origin, bounded};
use http::HeaderName;

#[tokio::test]
async fn the_path_of_the_list_keeps_its_query_and_a_field_named_a_credential_stays_at_home() {
    bounded(async {
        let other = Origin::answering("served").await;
        // Another name for the same machine, so that it is not the host that was configured.
        let region = other.url().replace("127.0.0.1", "localhost");
        let list = format!(r#"{{"regions":[{{"url":"{region}"}}]}}"#);
        let origin = Origin::scripted(move |arrival| match arrival.head.target() {
            "/list?all=1" => Act::Answer(Answer::ok(list.clone())),
            _ => Act::Answer(Answer::status(503, "")),
        })
        .await;
        let builder = Client::builder().endpoints([origin.url()]).policy(Policy::regions()).no_proxy();
        let builder = builder.discovery_path("/list?all=1").credential_header(HeaderName::from_static("x-mine"));
        let client = builder.build().expect("valid");
        let request = client.get("/x").header("x-mine", "secret").header("x-other", "1").header("x-api-key", "secret");
        let answer = request.send().await.expect("served");
        assert_eq!(answer.endpoint().port(), Some(other.addr().port()));
        let (asked, served) = (origin.requests(), other.requests());
        let targets: Vec<_> = asked.iter().map(|request| request.head.target().to_owned()).collect();
        assert_eq!(targets, ["/x", "/list?all=1"]);
        assert_eq!(asked[1].head.header("x-mine"), Some("secret"));
        let fields = ["x-mine", "x-api-key", "x-other"].map(|name| served[0].head.header(name));
        assert_eq!(fields, [None, None, Some("1")]);
    })
    .await;
}
