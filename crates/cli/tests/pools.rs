//! Connections to nodes that are kept for the next request: when they are used again, and when they must not be.

use handover_testkit::{
    Act, Answer, Authority, Client, Directory, GatewayBuilder, GatewayProcess, HttpProxyNode, Origin, bounded,
};
use rustix::process::Signal;

fn gateway() -> GatewayBuilder {
    // One worker: each has connections of its own.
    GatewayProcess::of(env!("CARGO_BIN_EXE_handover")).ordered().env("HANDOVER_WORKERS", "1")
}

/// Reloads with another config; what comes on new connections is served by it.
async fn reload(gateway: &GatewayProcess, config: &str) {
    let before = gateway.stderr().matches("reloaded:").count();
    gateway.rewrite_config(config);
    gateway.signal(Signal::HUP);
    while gateway.stderr().matches("reloaded:").count() == before {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Asks for `target` on a connection of its own.
async fn status(gateway: &GatewayProcess, target: &str) -> u16 {
    Client::once(gateway.addr(), format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await.status()
}

#[tokio::test]
async fn a_reload_that_changes_the_target_rules_leaves_no_connection_that_passed_the_old_ones() {
    bounded(async {
        let origin = Origin::answering("served").await;
        let node = HttpProxyNode::relay(Directory::new().with("a.test:80", origin.addr())).await;
        let with = |rule: &str| format!("{rule}\n[[node]]\nurl = \"http://{}\"\n", node.addr());
        let gateway = gateway().config(&with("allow_private_targets = true")).start().await;
        let ask = || status(&gateway, "http://a.test/");
        for (rule, accepted) in [
            ("allow_private_targets = true", 1),
            ("allow_private_targets = false", 2),
            ("allow_private_targets = false", 2),
        ] {
            reload(&gateway, &with(rule)).await;
            assert_eq!((ask().await, ask().await), (200, 200), "{rule}");
            assert_eq!(node.accepted(), accepted, "{rule}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_any_more_ends_the_connections_it_opened() {
    bounded(async {
        let (trusted, other) = (Authority::new(), Authority::new());
        let origin = Origin::builder().script(|_| Act::Answer(Answer::ok("served")));
        let origin = origin.tls(trusted.acceptor(&["127.0.0.1"], &["http/1.1"])).start().await;
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let file = directory.path().join("ca.pem");
        let trust = |authority: &Authority| std::fs::copy(authority.file(), &file).expect("the directory is writable");
        trust(&trusted);
        let config =
            format!("ca_files = [{file:?}]\n[[node]]\nkind = \"origin\"\nurl = \"https://{}\"\n", origin.addr());
        let gateway = gateway().config(&config).start().await;
        assert_eq!(status(&gateway, "/").await, 200);
        reload(&gateway, &config).await;
        assert_eq!(
            (status(&gateway, "/").await, origin.accepted()),
            (200, 1),
            "nothing changed: the connection is kept"
        );
        trust(&other);
        reload(&gateway, &config).await;
        assert_eq!((status(&gateway, "/").await, origin.request_count()), (502, 2), "another file under the same name");
    })
    .await;
}
