//! The examples do what they say, as programs of their own.

use std::path::PathBuf;
use std::process::Stdio;

use handover_testkit::{DeadPort, LivekitMock, Origin, bounded};
use tokio::process::Command;

/// The built example. Cargo builds examples with the tests, beside the directory that the tests are in.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let directory = test.parent().and_then(|deps| deps.parent()).expect("tests are built two levels down");
    let path = directory.join("examples").join(name);
    assert!(path.exists(), "{name} is not built: test the whole package, or build it with --examples");
    path
}

/// Runs it: exit code, stdout, stderr.
async fn run(name: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(example(name));
    command.args(arguments).stdin(Stdio::null()).env("NO_PROXY", "*").kill_on_drop(true);
    let output = command.output().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn each_example_explains_itself_when_it_is_told_nothing() {
    bounded(async {
        for name in ["rotation", "regions", "socket", "tower_layer"] {
            let (code, out, error) = run(name, &[]).await;
            assert_eq!((code, out.as_str()), (2, ""), "{name}");
            assert!(error.contains(&format!("usage: {name} ")), "{name}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn rotation_and_the_tower_layer_go_to_the_second_server_when_the_first_is_dead() {
    bounded(async {
        let (dead, origin) = (DeadPort::new(), Origin::answering("hello").await);
        let first = format!("http://{}", dead.addr());
        for name in ["rotation", "tower_layer"] {
            let (code, out, error) = run(name, &[&first, &origin.url()]).await;
            assert_eq!(code, 0, "{name}: {error}");
            assert!(out.contains("refused") && out.contains("try_next(not_sent)") && out.contains("hello"), "{out}");
        }
        let (code, _, error) = run("rotation", &[&first]).await;
        assert_eq!(code, 1);
        assert!(error.contains("the request was not sent"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn regions_asks_for_another_region_when_the_first_one_is_gone() {
    bounded(async {
        let mock = LivekitMock::start(2).await;
        mock.down(0).await;
        let (code, _, error) = run("regions", &[&mock.url(0), "/twirp/livekit.RoomService/CreateRoom", "token"]).await;
        // Nobody is left who could name the others.
        assert_eq!(code, 1, "{error}");
        mock.up(0);
        let (code, out, error) =
            run("regions", &[&mock.url(0), "/twirp/livekit.RoomService/CreateRoom", "token"]).await;
        assert_eq!(code, 0, "{error}");
        assert!(out.contains("200 OK from"), "{out}");
    })
    .await;
}
