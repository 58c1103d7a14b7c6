//! Regions: one server is known, the others are asked for when it fails.
//!
//! ```sh
//! cargo run -p handover-client --example regions -- http://127.0.0.1:9999 /twirp/livekit.RoomService/ListRooms
//! ```
//!
//! The first server is asked for `/settings/regions` only when it has failed, and the request goes on to the regions that
//! it names, in its order, after a pause. All attempts carry the same id, by which the servers recognise a repeat.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use handover_client::{Client, Policy};

const USAGE: &str = "\
POSTs to a server, and to the regions that it names when it fails.

usage: regions SERVER PATH [TOKEN]

  SERVER   http://HOST:PORT or https://HOST
  PATH     what to call, such as /twirp/livekit.RoomService/ListRooms
  TOKEN    sent as Authorization: Bearer

exit: 0 answered, 1 not answered, 2 wrong usage
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (server, path, token) = match arguments.as_slice() {
        [server, path] => (server, path, None),
        [server, path, token] => (server, path, Some(token.as_str())),
        _ => {
            let _ = stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(2);
        }
    };
    match call(server, path, token).await {
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

async fn call(server: &str, path: &str, token: Option<&str>) -> Result<String, Box<dyn std::error::Error>> {
    // To name the path is to say that this server may be failed over, in whatever domain it is.
    let builder = Client::builder().endpoints([server]).policy(Policy::regions());
    let client = builder.discovery_path("/settings/regions").build()?;
    let mut request = client.post(path).header("content-type", "application/json").body("{}");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let told = format!("{}\n\n{} from {}\n", answer.record(), answer.status(), answer.endpoint());
    Ok(told + &answer.text().await? + "\n")
}
