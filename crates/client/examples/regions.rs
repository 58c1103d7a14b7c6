//! Asks a service with regions for something: the first endpoint, and where it fails, the regions that it names.
//!
//! ```sh
//! cargo run -p handover-client --example regions -- https://my-project.livekit.cloud /
//! ```

use std::io::Write as _;
use std::process::ExitCode;

use handover_client::{Client, Policy};

const USAGE: &str = "\
usage: regions URL [PATH]

Sends GET PATH (default /) to URL under the policy for regions: three attempts, 200 ms apart and doubling, each with its
full time. After the first failure the regions are asked for at URL/settings/regions; all attempts carry one request id.
Prints the answer's status, and a line for each attempt.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(url) = arguments.next().filter(|url| !url.starts_with('-')) else {
        say(USAGE);
        return ExitCode::from(2);
    };
    let path = arguments.next().unwrap_or_else(|| "/".to_owned());
    // Naming the discovery opens it for every domain, not only for LiveKit's own.
    let builder = Client::builder().endpoints([url]).policy(Policy::regions()).discovery_path("/settings/regions");
    let client = match builder.build() {
        Ok(client) => client,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::from(2);
        }
    };
    match client.get(&path).send().await {
        Ok(answer) => {
            say(&format!("{} from {}\n{}", answer.status(), answer.endpoint(), answer.record()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Nothing is left to do where even this cannot be said.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
