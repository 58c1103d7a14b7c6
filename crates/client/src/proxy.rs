//! Which proxy stands before an endpoint: from the environment, as other programs read it, or as the caller says.

use handover_wire::dial::DialNode;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::endpoint::{NotAnEndpoint, proxy_node, without_credentials};

/// The variables that name a proxy.
const VARIABLES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy's URL; without a scheme it is an HTTP proxy, as everywhere.
fn read(text: &str) -> Result<DialNode, NotAnEndpoint> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let shown = without_credentials(text);
    let url: Url =
        whole.parse().map_err(|error| NotAnEndpoint(format!("the proxy `{shown}` cannot be read: {error}")))?;
    proxy_node(&url)
}

/// Which proxy stands before an endpoint.
pub(crate) enum Proxies {
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case.
    Environment(Box<Matcher>),
    /// This one before all.
    All(DialNode),
    None,
}

impl Proxies {
    pub(crate) fn from_env() -> Self {
        for name in VARIABLES {
            let value = std::env::var(name).unwrap_or_default();
            if !value.is_empty()
                && let Err(NotAnEndpoint(why)) = read(&value)
            {
                tracing::warn!("the variable {name} names no proxy that can be used, and is ignored: {why}");
            }
        }
        Self::Environment(Box::new(Matcher::from_env()))
    }

    pub(crate) fn all(url: &str) -> Result<Self, NotAnEndpoint> {
        Ok(Self::All(read(url)?))
    }

    /// The proxy before this endpoint, if there is one. A variable that names no proxy we speak to is told and ignored.
    pub(crate) fn of(&self, url: &Url) -> Option<DialNode> {
        match self {
            Self::None => None,
            Self::All(node) => Some(node.clone()),
            Self::Environment(matcher) => {
                let intercept = matcher.intercept(&url.as_str().parse::<Uri>().ok()?)?;
                let mut proxy: Url = intercept.uri().to_string().parse().ok()?;
                if let Some((user, password)) = intercept.raw_auth() {
                    let _ = proxy.set_username(user);
                    let _ = proxy.set_password(Some(password));
                }
                match proxy_node(&proxy) {
                    Ok(mut node) => {
                        node.credentials = node.credentials.or_else(|| credentials(intercept.basic_auth()));
                        Some(node)
                    }
                    Err(NotAnEndpoint(why)) => {
                        tracing::warn!("the environment's proxy is not used: {why}");
                        None
                    }
                }
            }
        }
    }
}

/// The user and password in the value of `Proxy-Authorization`.
fn credentials(value: Option<&http::HeaderValue>) -> Option<handover_wire::dial::Credentials> {
    use base64::Engine as _;
    let word = value?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(word).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(handover_wire::dial::Credentials { user: user.into(), password: password.into() })
}
