//! Which proxy stands before an endpoint: from the environment, as other programs read it, or as the caller says.

use handover_wire::dial::DialNode;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::endpoint::{NotAnEndpoint, proxy_node};

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
        Self::Environment(Box::new(Matcher::from_env()))
    }

    pub(crate) fn all(url: &str) -> Result<Self, NotAnEndpoint> {
        let url: Url =
            url.parse().map_err(|error| NotAnEndpoint(format!("the proxy's URL cannot be read: {error}")))?;
        Ok(Self::All(proxy_node(&url)?))
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
