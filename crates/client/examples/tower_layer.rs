//! Failover around a client that knows nothing of it: hyper-util's, as a `tower` service.
//!
//! ```sh
//! cargo run -p handover-client --features tower --example tower_layer -- http://127.0.0.1:3000 http://127.0.0.1:3001
//! ```
//!
//! hyper-util says of an error whether it came while it was connecting. That is declared here, so that a POST goes on when
//! nobody listens at the first server; of everything else nothing is proven.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use bytes::Bytes;
use handover_client::{Client, ConnectErrors, Policy, Record, SentBody};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tower_layer::Layer as _;
use tower_service::Service as _;

const USAGE: &str = "\
POSTs to the first of several servers that takes it, through hyper-util's client.

usage: tower_layer SERVER SERVER...

  SERVER   http://HOST:PORT, in order of priority

exit: 0 answered, 1 not answered, 2 wrong usage
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let servers: Vec<_> = std::env::args().skip(1).collect();
    if servers.is_empty() {
        let _ = stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    }
    match post(&servers).await {
        Ok(text) => {
            let _ = stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn post(servers: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    // Its own retries stay off: what may be repeated is decided in one place.
    let mut inner = legacy::Client::builder(TokioExecutor::new());
    let inner = inner.retry_canceled_requests(false).build_http::<SentBody>();
    let layer = Client::builder().endpoints(servers).policy(Policy::rotation()).layer()?;
    let mut service = layer.evidence(ConnectErrors::new(legacy::Error::is_connect)).layer(inner);

    let request = Request::post("/").body(Full::from(Bytes::from_static(b"hello")))?;
    let answer = service.call(request).await?;
    let record = answer.extensions().get::<Record>().map(ToString::to_string).unwrap_or_default();
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(format!("{record}\n\n{status}\n{}\n", String::from_utf8_lossy(&body)))
}
