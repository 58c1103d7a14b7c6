//! The gateway command as a user runs it: real processes, real signals, real exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes under load; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command in an empty directory, with no variable of ours from outside.
fn handover(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HANDOVER_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    (status.code(), String::from_utf8_lossy(&stdout).into(), String::from_utf8_lossy(&stderr).into())
}

/// A running gateway; killed when a test fails.
struct Gateway {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Gateway {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = handover(directory, &["gateway", "--listen", "127.0.0.1:0"]);
        let log = std::fs::File::create(directory.join("stderr")).expect("a file");
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a banner");
        let address = line.trim().rsplit("listening on ").next().expect("split gives one").to_owned();
        let gateway = Self { child, stdout, address };
        assert!(line.contains("listening on 127.0.0.1:"), "{line:?}: {}", stderr(directory));
        gateway
    }

    /// The rest of the banner.
    fn banner(&mut self) -> String {
        let mut text = String::new();
        while !text.contains("explain") {
            assert_ne!(self.stdout.read_line(&mut text).expect("readable"), 0, "the banner ended: {text}");
        }
        text
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the gateway runs");
    }

    /// The whole response to a request written as it is.
    fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("written");
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into()
    }

    fn exit_code(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code();
            }
            pause();
        }
        panic!("the gateway does not end");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("stderr")).unwrap_or_default()
}

/// Waits until the diagnostics say something.
fn wait_for(directory: &Path, words: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = stderr(directory);
        if text.contains(words) {
            return text;
        }
        assert!(Instant::now() < until, "no {words:?} in {text}");
        pause();
    }
}

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";

#[test]
fn check_config_says_what_it_found_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("h.toml"), "[[platform]]\nname = \"x\"\ntag_filters = [\"nope\"]\n").unwrap();
    let (code, out, err) =
        output(&mut handover(directory.path(), &["gateway", "--config", "h.toml", "--check-config"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "config ok: 1 node, 2 platforms, 0 routes, listen on 127.0.0.1:2260\n\
         warning: platform x has no node: no tag matches its tag_filters\n"
    );
    assert!(!directory.path().join("handover-data").exists());
}

#[test]
fn every_error_of_every_source_is_on_stderr_with_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("h.toml"), "listen = 5\n\n[[platform]]\nname = \"a b\"\n").unwrap();
    for check in [&["--check-config"][..], &[]] {
        let mut command = handover(directory.path(), &["gateway", "--config", "h.toml", "--max-retries", "-1"]);
        let (code, out, err) = output(command.args(check).env("HANDOVER_WORKERS", "0"));
        assert_eq!((code, out.as_str()), (Some(2), ""));
        let starts: Vec<_> = err.lines().map(|line| line.split(": found").next().unwrap()).collect();
        assert_eq!(
            starts,
            [
                "h.toml:1:10: listen",
                "h.toml:4:8: platform.name",
                "env HANDOVER_WORKERS: workers",
                "flag --max-retries: platform.max_retries"
            ]
        );
    }
    let (code, _, err) = output(&mut handover(directory.path(), &["gateway", "--no-such-flag"]));
    assert_eq!(code, Some(2), "{err}");
    let (code, _, err) = output(handover(directory.path(), &["gateway"]).env("HANDOVER_LISTEN", "0.0.0.0:0"));
    assert!(code == Some(2) && err.contains("set proxy_token or listen on 127.0.0.1"), "{err}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_variable_that_is_not_text_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().unwrap();
    let value = std::ffi::OsStr::from_bytes(b"geheim\xff");
    let (code, _, err) = output(handover(directory.path(), &["gateway"]).env("HANDOVER_PROXY_TOKEN", value));
    assert!(code == Some(2) && err.starts_with("env HANDOVER_PROXY_TOKEN: proxy_token: found"), "{err}");
    assert!(!err.contains("geheim"), "{err}");
}

#[test]
fn all_keys_are_listed_and_the_help_teaches() {
    let directory = tempfile::tempdir().unwrap();
    let (code, keys, _) = output(&mut handover(directory.path(), &["gateway", "--list-keys"]));
    assert!(code == Some(0) && keys.contains("HANDOVER_LIMITS_HEADER_TIMEOUT") && keys.contains("[[route]]"), "{keys}");
    let mut command = handover(directory.path(), &["gateway", "--help"]);
    let (code, help, _) = output(command.env("HANDOVER_CONFIG", "secret-path"));
    assert!(code == Some(0) && help.contains("Exit codes:") && help.contains("--origin http://"), "{help}");
    assert!(!help.contains("secret-path"));
}

#[test]
fn the_curl_line_of_the_banner_works_and_term_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(directory.path(), &[]);
    let banner = gateway.banner();
    assert!(banner.contains(&format!("  curl http://{}/healthz\n", gateway.address)), "{banner}");
    assert!(gateway.answer(HEALTHZ).starts_with("HTTP/1.1 200 "));
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code(), Some(0), "{}", stderr(directory.path()));
}

#[test]
fn hup_takes_a_good_configuration_and_keeps_the_old_one_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("h.toml");
    std::fs::write(&file, "[[platform]]\nname = \"one\"\n").unwrap();
    let gateway = Gateway::start(directory.path(), &["--config", "h.toml", "--log-format", "json"]);
    std::fs::write(&file, "[[platform]]\nname = \"one\"\nmax_retries = 99\nxyz = 1\n").unwrap();
    gateway.signal(Signal::HUP);
    let text = wait_for(directory.path(), "the old one stays");
    assert!(text.contains("h.toml:3:15: platform.max_retries: found 99") && text.contains("h.toml:4:1: "), "{text}");
    assert!(gateway.answer(HEALTHZ).starts_with("HTTP/1.1 200 "));
    std::fs::write(&file, "[[platform]]\nname = \"one\"\n[[platform]]\nname = \"two\"\n").unwrap();
    gateway.signal(Signal::HUP);
    let text = wait_for(directory.path(), "reloaded: config ok: 1 node, 3 platforms");
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{text}");
    std::fs::write(&file, "workers = 250\n").unwrap();
    gateway.signal(Signal::HUP);
    wait_for(directory.path(), "workers has changed: that needs a restart");
    gateway.signal(Signal::INT);
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_port_in_use_has_its_exit_code_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, err) = output(&mut handover(directory.path(), &["gateway", "--listen", &address]));
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.contains(&address) && err.contains("--listen"), "{err}");
}

#[test]
fn an_address_of_another_machine_has_its_exit_code_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    // An address of the documentation: no machine has it (RFC 5737).
    let arguments = ["gateway", "--listen", "192.0.2.1:0", "--token", "t"];
    let (code, out, err) = output(&mut handover(directory.path(), &arguments));
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.contains("192.0.2.1:0: no interface of this machine has that address; use 0.0.0.0"), "{err}");
}

#[test]
fn a_data_dir_that_cannot_be_used_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let (code, out, err) =
        output(&mut handover(directory.path(), &["gateway", "--listen", "127.0.0.1:0", "--data-dir", "file/below"]));
    assert_eq!((code, out.as_str()), (Some(4), ""), "{err}");
    assert!(err.contains("file/below"), "{err}");
}

#[test]
fn a_second_gateway_on_the_same_data_dir_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Gateway::start(directory.path(), &[]);
    let (code, _, err) = output(&mut handover(directory.path(), &["gateway", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(4), "{err}");
}

#[test]
fn what_the_start_would_refuse_the_check_refuses_too() {
    let directory = tempfile::tempdir().unwrap();
    let text = "origins = [\"http://127.0.0.1:2260\"]\n[tls]\ncert = \"h.toml\"\nkey = \"h.toml\"\n";
    std::fs::write(directory.path().join("h.toml"), text).unwrap();
    for check in [&["--check-config"][..], &[]] {
        let (code, out, err) = output(handover(directory.path(), &["gateway", "--config", "h.toml"]).args(check));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        let starts: Vec<_> = err.lines().filter_map(|line| line.split(": found").next()).collect();
        assert_eq!(starts, ["h.toml:1:11: origins", "h.toml:3:8: tls.cert", "h.toml:4:7: tls.key"]);
    }
}

#[test]
fn a_level_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let allowed =
        "allowed: error, warn, info, debug, trace or off; or by module, such as info,handover_gateway=debug\n";
    // The one that would serve for ever if it took the level comes last.
    let commands = [&["log"][..], &["explain", "last"], &["gateway", "--check-config"], &["gateway"]];
    for level in ["nonsense", "a=b=c", "a=b", "=info", "info,", ""] {
        for command in commands {
            let (code, out, err) = output(handover(directory.path(), command).args(["--log-level", level]));
            assert_eq!((code, out.as_str()), (Some(2), ""), "{level} {command:?}");
            assert_eq!(err, format!("flag --log-level: found {level:?}; {allowed}"), "{command:?}");
        }
    }
    let (_, _, err) = output(handover(directory.path(), &["log"]).env("HANDOVER_LOG_LEVEL", "verbose"));
    assert_eq!(err, format!("env HANDOVER_LOG_LEVEL: found \"verbose\"; {allowed}"));
    for level in ["WARN", "off", "handover_gateway::accept=trace,info"] {
        let (code, _, err) =
            output(&mut handover(directory.path(), &["gateway", "--check-config", "--log-level", level]));
        assert_eq!((code, err.as_str()), (Some(0), ""), "{level}");
    }
    // It is one of all errors, not the first or last.
    let arguments = ["gateway", "--log-level", "x", "--listen", "y", "--max-retries", "z"];
    let (_, _, err) = output(&mut handover(directory.path(), &arguments));
    let flags: Vec<_> = err.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(flags, ["flag --listen", "flag --log-level", "flag --max-retries"]);
}

#[test]
fn errors_of_the_start_are_json_where_json_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases = [
        (&["--listen", "x", "--max-retries", "y"][..], 2, &["flag --listen: listen: ", "flag --max-retries: "][..]),
        (&["--listen", "x", "--log-level", "y", "--check-config"], 2, &["flag --listen: ", "flag --log-level: "]),
        (&["--listen", &taken], 3, &["cannot listen on 127.0.0.1:"]),
        (&["--no-such-flag"], 2, &["unexpected argument '--no-such-flag' found"]),
    ];
    for (arguments, exit_code, starts) in cases {
        let flag = output(handover(directory.path(), &["gateway", "--log-format", "json"]).args(arguments));
        let joined = output(handover(directory.path(), &["gateway", "--log-format=json"]).args(arguments));
        let variable =
            output(handover(directory.path(), &["gateway"]).args(arguments).env("HANDOVER_LOG_FORMAT", "json"));
        for (code, out, err) in [flag, joined, variable] {
            assert_eq!((code, out.as_str(), err.lines().count()), (Some(exit_code), "", starts.len()), "{err}");
            for (line, start) in err.lines().zip(starts) {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &"handover".into()));
                assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
                assert!(line["fields"]["message"].as_str().is_some_and(|text| text.starts_with(start)), "{line}");
            }
        }
    }
    let mut command = handover(directory.path(), &["gateway", "--log-format", "json", "--max-retries", "y"]);
    let line: serde_json::Value = serde_json::from_str(&output(&mut command).2).expect("one line");
    let fields = ["source", "key", "found", "allowed"].map(|name| line["fields"][name].as_str().unwrap_or_default());
    assert_eq!(fields, ["flag --max-retries", "platform.max_retries", "\"y\"", "allowed: a whole number from 0 to 31"]);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", origin.local_addr().unwrap());
    std::fs::write(directory.path().join("h.toml"), "drain_timeout = \"1h\"\n").unwrap();
    let gateway = Gateway::start(directory.path(), &["--config", "h.toml", "--origin", &url]);
    let mut client = TcpStream::connect(&gateway.address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    // The request runs from here on, and its origin never answers.
    let (_held, _) = origin.accept().unwrap();
    gateway.signal(Signal::TERM);
    wait_for(directory.path(), "ending: ");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code(), Some(1), "{}", stderr(directory.path()));
    let (code, rows, err) = output(&mut handover(directory.path(), &["log", "--json"]));
    assert_eq!((code, rows.as_str()), (Some(0), ""), "what a second signal cuts off has no row: {err}");
}

/// Before another look at another process.
#[allow(clippy::disallowed_methods, reason = "a process is waited for, and only this test's thread waits")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
