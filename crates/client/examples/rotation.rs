//! Servers in order of priority: the first that serves answers, and every attempt is told.
//!
//! ```sh
//! cargo run -p handover-client --example rotation -- http://127.0.0.1:3000 http://127.0.0.1:3001 /check
//! ```
//!
//! Stop the first server and run it again: the second one answers. Start it again, and it serves the very next request.

use std::io::{Write as _, stderr, stdout};
use std::process::ExitCode;

use handover_client::{Client, Policy};

const USAGE: &str = "\
Asks the first of several servers that serves.

usage: rotation SERVER SERVER... [PATH]

  SERVER   http://HOST:PORT or https://HOST, in order of priority
  PATH     what to ask for; / if it is left out

exit: 0 answered, 1 not answered, 2 wrong usage
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (paths, servers): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with('/'));
    if servers.is_empty() || paths.len() > 1 {
        let _ = stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    }
    match ask(&servers, paths.first().map_or("/", String::as_str)).await {
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

async fn ask(servers: &[String], path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let client = Client::builder().endpoints(servers).policy(Policy::rotation()).build()?;
    let answer = client.get(path).send().await?;
    // The record has every attempt: where, how far it got, what went wrong, and why it went on or stopped.
    let told = format!("{}\n\n{} from {}\n", answer.record(), answer.status(), answer.endpoint());
    Ok(told + &answer.text().await? + "\n")
}
