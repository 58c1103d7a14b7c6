//! What a request costs: CPU per request beside reqwest and a bare hyper-util client, the time that a dead first endpoint
//! costs, and the memory of an idle client. The server runs in a process of its own, so that only the client is counted.
//!
//! `cargo bench -p handover-client --bench overhead` prints medians over interleaved rounds, and ratios. Compare runs on one
//! quiet machine only.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used, reason = "a program to measure with, which prints")]

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use handover_client::{Client, Policy};
use handover_testkit::{BlackholePort, DeadPort};
use http_body_util::{BodyExt, Empty, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Requests of one measurement, and how many are under way at once.
const REQUESTS: usize = 40_000;
const AT_ONCE: usize = 32;
const ROUNDS: usize = 9;

fn main() {
    if std::env::args().any(|arg| arg == "serve") {
        return serve();
    }
    let server = Server::start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut figures: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let costs = [ours(&runtime(), &server.url), reqwest(&runtime(), &server.url), bare(&runtime(), &server.url)];
        // The first round warms caches and the server.
        if round > 0 {
            figures.iter_mut().zip(costs).for_each(|(all, cost)| all.push(cost));
        }
    }
    println!("CPU per request, GET of 13 bytes, {AT_ONCE} at once, one thread, medians of {ROUNDS} [lowest..highest]:");
    let medians = ["handover-client", "reqwest", "bare hyper-util"].iter().zip(&mut figures).map(|(name, all)| {
        all.sort_by(f64::total_cmp);
        println!("  {name:16} {:6.2} us [{:.2}..{:.2}]", all[ROUNDS / 2], all[0], all[ROUNDS - 1]);
        all[ROUNDS / 2]
    });
    let medians: Vec<_> = medians.collect();
    println!("  handover-client / reqwest {:.3}, / bare {:.3}", medians[0] / medians[1], medians[0] / medians[2]);
    runtime().block_on(dead_first(&server.url));
    memory(&server.url);
}

/// The time that this thread has been on a processor so far, user and kernel, in seconds: the kernel counts it in
/// nanoseconds. The runtime has no other thread.
fn cpu() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Microseconds of CPU for each of many requests.
fn cost<F: Future<Output = ()> + 'static>(
    runtime: &tokio::runtime::Runtime,
    one: impl Fn() -> F + Clone + 'static,
) -> f64 {
    let local = tokio::task::LocalSet::new();
    let run = |requests: usize| {
        let one = one.clone();
        local.block_on(runtime, async move {
            let tasks: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    let one = one.clone();
                    tokio::task::spawn_local(async move {
                        for _ in 0..requests / AT_ONCE {
                            one().await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    };
    run(REQUESTS / 10);
    let before = cpu();
    run(REQUESTS);
    (cpu() - before) * 1e6 / REQUESTS as f64
}

fn ours(runtime: &tokio::runtime::Runtime, url: &str) -> f64 {
    let client = Client::builder().endpoints([url]).policy(Policy::rotation()).no_proxy().build().unwrap();
    cost(runtime, move || {
        let request = client.get("/hello?a=b").header("x-app-token", "secret");
        async move { assert_eq!(request.send().await.unwrap().bytes().await.unwrap().len(), 13) }
    })
}

fn reqwest(runtime: &tokio::runtime::Runtime, url: &str) -> f64 {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let url = format!("{url}/hello?a=b");
    cost(runtime, move || {
        let request = client.get(&url).header("x-app-token", "secret");
        async move { assert_eq!(request.send().await.unwrap().bytes().await.unwrap().len(), 13) }
    })
}

fn bare(runtime: &tokio::runtime::Runtime, url: &str) -> f64 {
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri: http::Uri = format!("{url}/hello?a=b").parse().unwrap();
    cost(runtime, move || {
        let request = http::Request::get(uri.clone()).header("x-app-token", "secret").body(Empty::new()).unwrap();
        let answer = client.request(request);
        async move { assert_eq!(answer.await.unwrap().into_body().collect().await.unwrap().to_bytes().len(), 13) }
    })
}

/// The time to the answer when the first endpoint is dead: on a new client each time, so that nothing rests.
async fn dead_first(url: &str) {
    let (dead, blackhole) = (DeadPort::new(), BlackholePort::new().await);
    let rows = [
        ("healthy", None),
        ("first refuses", Some(format!("http://{}", dead.addr()))),
        ("first swallows packets", Some(format!("http://{}", blackhole.addr()))),
    ];
    println!("time to the answer, new client, medians of 21:");
    for (what, first) in rows {
        let mut times = Vec::new();
        for _ in 0..21 {
            let endpoints = first.iter().map(String::as_str).chain([url]);
            let client = Client::builder().endpoints(endpoints).policy(Policy::rotation()).no_proxy().build().unwrap();
            let began = Instant::now();
            client.get("/hello").send().await.unwrap().bytes().await.unwrap();
            times.push(began.elapsed());
        }
        times.sort();
        println!("  {what:24} {:8.3} ms [{:.3}..{:.3}]", ms(times[10]), ms(times[0]), ms(times[20]));
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What an idle client keeps in memory.
fn memory(url: &str) {
    const CLIENTS: usize = 2000;
    let resident = || -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let endpoints = [url.to_owned(), format!("{url}/second")];
    let build = || Client::builder().endpoints(&endpoints).policy(Policy::rotation()).no_proxy().build().unwrap();
    let warm = build();
    let before = resident();
    let clients: Vec<_> = (0..CLIENTS).map(|_| build()).collect();
    let ours = (resident() - before) / CLIENTS as u64;
    let build_theirs = || reqwest::Client::builder().no_proxy().build().unwrap();
    let warm_too = build_theirs();
    let before = resident();
    let others: Vec<_> = (0..CLIENTS).map(|_| build_theirs()).collect();
    let theirs = resident().saturating_sub(before) / CLIENTS as u64;
    println!("memory of an idle client without connections: {ours} bytes (reqwest, as built here: {theirs} bytes)");
    drop((warm, warm_too, clients, others));
}

/// The server, in a process of its own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut child =
            Command::new(std::env::current_exe().unwrap()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, url: format!("http://{}", line.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let hello = service_fn(|_| async {
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from_static(b"Hello, World!"))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), hello));
        }
    });
}
