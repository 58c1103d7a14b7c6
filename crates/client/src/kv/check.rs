//! The connection test: what was tried, how it went, and the text for it.

use std::fmt;
use std::time::Duration;

/// The servers as they were tried. `Display` is the text that Classworks shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The servers, in the order in which they were tried.
    pub servers: Vec<CheckedServer>,
    /// The time of all of them together.
    pub duration: Duration,
}

/// One server of a [`Check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedServer {
    /// Its URL without credentials, or the path of a local store.
    pub url: String,
    /// What is wrong with it; `None` if it is good.
    pub error: Option<String>,
    /// Whether its word was final: a status of 4xx is about the request, so that no other server was asked.
    pub is_final: bool,
}

impl CheckedServer {
    pub(super) fn good(url: &str) -> Self {
        Self { url: url.to_owned(), error: None, is_final: true }
    }
}

impl Check {
    /// Whether the last server that was tried is good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.servers.last().is_some_and(|server| server.error.is_none())
    }

    fn list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "依次尝试的服务器:")?;
        for (index, server) in self.servers.iter().enumerate() {
            let end = if index + 1 == self.servers.len() { "" } else { "\n" };
            let place = format!("{}. {}", index + 1, server.url);
            match &server.error {
                None => write!(f, "{place} (成功){end}")?,
                // Where another one served, the reason is of no interest to who only wanted to know that.
                Some(_) if self.is_good() => write!(f, "{place} (失败){end}")?,
                Some(error) => write!(f, "{place} (失败: {error}){end}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.servers.last() else { return f.write_str("所有服务器均连接失败") };
        match &last.error {
            None => {
                writeln!(f, "服务器连接正常 延迟{}ms", self.duration.as_millis())?;
                if self.servers.len() > 1 { self.list(f) } else { write!(f, "服务器: {}", last.url) }
            }
            Some(error) => {
                writeln!(f, "{error}")?;
                self.list(f)?;
                if last.is_final { Ok(()) } else { f.write_str("\n所有服务器均连接失败") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(servers: &[(Option<&str>, bool)]) -> String {
        let server = |(index, (error, is_final)): (usize, &(Option<&str>, bool))| CheckedServer {
            url: format!("https://kv-{index}.example"),
            error: error.map(str::to_owned),
            is_final: *is_final,
        };
        let servers = servers.iter().enumerate().map(server).collect();
        Check { servers, duration: Duration::from_millis(42) }.to_string()
    }

    #[test]
    fn the_text_is_the_one_that_classworks_shows() {
        assert_eq!(check(&[(None, true)]), "服务器连接正常 延迟42ms\n服务器: https://kv-0.example");
        assert_eq!(
            check(&[(Some("服务器响应异常"), false), (None, true)]),
            "服务器连接正常 延迟42ms\n依次尝试的服务器:\n1. https://kv-0.example (失败)\n2. https://kv-1.example (成功)"
        );
        assert_eq!(
            check(&[(Some("refused"), false), (Some("服务器响应异常"), false)]),
            "服务器响应异常\n依次尝试的服务器:\n1. https://kv-0.example (失败: refused)\n\
             2. https://kv-1.example (失败: 服务器响应异常)\n所有服务器均连接失败"
        );
        assert_eq!(
            check(&[(Some("无效的token"), true)]),
            "无效的token\n依次尝试的服务器:\n1. https://kv-0.example (失败: 无效的token)"
        );
    }
}
