//! The gateway's three doors, so that one test can go through each of them.

use std::net::SocketAddr;

use crate::client::{Client, Response};

/// A way into the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Absolute-form.
    Forward,
    /// CONNECT, and the request inside the tunnel.
    Connect,
    /// `/token/identity/http/host/path`, with the token `-` and the Default platform.
    Reverse,
}

/// All of them.
pub const DOORS: [Door; 3] = [Door::Forward, Door::Connect, Door::Reverse];

impl Door {
    /// The request line and `Host` (each with its CRLF) that ask this door for `path` at `target` (`host:port`); inside
    /// the tunnel for CONNECT.
    #[must_use]
    pub fn lines(self, gateway: SocketAddr, method: &str, target: &str, path: &str) -> String {
        match self {
            Self::Forward => format!("{method} http://{target}{path} HTTP/1.1\r\nHost: {target}\r\n"),
            Self::Connect => format!("{method} {path} HTTP/1.1\r\nHost: {target}\r\n"),
            Self::Reverse => format!("{method} /-/Default/http/{target}{path} HTTP/1.1\r\nHost: {gateway}\r\n"),
        }
    }

    /// Connects, and opens the tunnel for CONNECT. Not cancel safe: the connection is used up.
    ///
    /// # Errors
    /// The answer to CONNECT, when it is no 2xx.
    ///
    /// # Panics
    /// When the gateway does not answer at all.
    pub async fn enter(self, gateway: SocketAddr, target: &str) -> Result<Client, Response> {
        let mut client = Client::connect(gateway).await;
        if self == Self::Connect {
            let answer = client.tunnel(target, "").await.expect("the gateway answers CONNECT");
            if answer.status() / 100 != 2 {
                return Err(answer);
            }
        }
        Ok(client)
    }

    /// Sends one request on a connection of its own: `headers` are lines with their CRLF. Not cancel safe.
    ///
    /// # Errors
    /// When the connection ends before an answer's head, as a tunnel's may.
    ///
    /// # Panics
    /// When the gateway does not answer CONNECT at all.
    pub async fn send(
        self,
        gateway: SocketAddr,
        target: SocketAddr,
        method: &str,
        headers: &str,
        body: &str,
    ) -> std::io::Result<Response> {
        let target = target.to_string();
        let mut client = match self.enter(gateway, &target).await {
            Ok(client) => client,
            Err(answer) => return Ok(answer),
        };
        let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let lines = self.lines(gateway, method, &target, "/");
        client.request(format!("{lines}{headers}{length}\r\n{body}")).await
    }

    /// Sends `GET /` on a connection of its own and reads the answer. Not cancel safe.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn get(self, gateway: SocketAddr, target: SocketAddr) -> Response {
        self.send(gateway, target, "GET", "", "").await.expect("an answer comes")
    }

    /// Sends `POST /` with `body` on a connection of its own and reads the answer. Not cancel safe.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn post(self, gateway: SocketAddr, target: SocketAddr, body: &str) -> Response {
        self.send(gateway, target, "POST", "", body).await.expect("an answer comes")
    }
}
