//! The gateway as a library: others start it in their own process, on a port of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use handover_gateway::config::{Config, Flags, Sources};
use handover_gateway::log::{Filter, LogReader};
use handover_gateway::{Gateway, ReloadError, StartError};

fn config(data_dir: &Path, listen: &str, origins: &[String]) -> Config {
    let flags = Flags {
        listen: Some(listen.to_owned()),
        data_dir: Some(data_dir.to_str().expect("a plain path").to_owned()),
        origins: origins.to_vec(),
        ..Flags::default()
    };
    Config::load(Sources { flags, ..Sources::default() }).expect("a valid configuration")
}

/// An origin that answers every request with its name, one a connection.
fn origin(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, name);
        }
    });
    format!("http://{address}#{name}")
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut head = [0; 4096];
    if stream.read(&mut head).is_ok_and(|n| n > 0) {
        let length = name.len();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}");
    }
}

fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn it_starts_serves_reloads_and_ends_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = [origin("one")];
    let running = Gateway::start(config(dir.path(), "127.0.0.1:0", &first)).expect("it starts");
    let address = running.local_addr();
    assert!(get(address).ends_with("one"));

    let second = [origin("two")];
    running.reload(config(dir.path(), "127.0.0.1:0", &second)).expect("the new one is taken");
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while !get(address).ends_with("two") {
        assert!(std::time::Instant::now() < until, "every worker learns of it");
    }

    assert!(running.shutdown(), "nothing was running any more");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    let rows = LogReader::open(dir.path()).and_then(|r| r.list(&Filter::default())).expect("the log is written");
    assert!(rows.items.len() >= 2, "{}", rows.items.len());
}

#[test]
fn what_needs_a_restart_is_refused_and_the_old_one_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let origins = [origin("one")];
    let running = Gateway::start(config(dir.path(), "127.0.0.1:0", &origins)).expect("it starts");
    let moved = config(dir.path(), "127.0.0.1:1", &origins);
    assert!(matches!(running.reload(moved), Err(ReloadError::NeedsRestart("listen"))));
    let own = format!("http://{}", running.local_addr());
    let looping = running.reload(config(dir.path(), "127.0.0.1:0", &[own]));
    assert!(looping.is_err_and(|e| e.to_string().contains("own address")));
    assert!(get(running.local_addr()).ends_with("one"));
}

#[test]
fn a_port_in_use_and_a_log_in_use_are_said_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let origins = [origin("one")];
    let running = Gateway::start(config(dir.path(), "127.0.0.1:0", &origins)).expect("it starts");
    let taken = config(dir.path(), &running.local_addr().to_string(), &origins);
    let error = Gateway::start(taken).expect_err("the port is taken");
    assert!(matches!(error, StartError::Bind { .. }));
    assert!(error.to_string().contains("another program has this port"), "{error}");
    let error = Gateway::start(config(dir.path(), "127.0.0.1:0", &origins)).expect_err("the log is taken");
    assert!(matches!(error, StartError::Log(_)), "{error}");
    drop(running);
    drop(Gateway::start(config(dir.path(), "127.0.0.1:0", &origins)).expect("both are free again"));
}
