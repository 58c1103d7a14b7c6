//! The reverse door's path form: `/<token>/<identity>/<http|https>/<host[:port]>[/path][?query]`.

use http::Uri;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};

use crate::checks;
use crate::config::Token;
use crate::dial::Target;
use crate::errors::ErrorCode;
use crate::identity::Identity;

/// What the path says.
#[derive(Debug)]
pub(crate) struct Reverse {
    pub(crate) identity: Identity,
    pub(crate) target: Target,
    pub(crate) authority: Authority,
    /// The target's own path and query, escapes as they were.
    pub(crate) path: PathAndQuery,
    /// Everything before the target's path, for rewriting redirects.
    pub(crate) prefix: String,
}

/// Reads the path form. Without a token configured the first segment may be anything, also empty.
pub(crate) fn parse(uri: &Uri, token: Option<&Token>) -> Result<Reverse, ErrorCode> {
    let path = uri.path();
    let mut segments = path.strip_prefix('/').unwrap_or(path).splitn(5, '/');
    let given = segments.next().unwrap_or_default();
    if let Some(token) = token
        && !token.matches(&decoded(given).ok_or(ErrorCode::AuthFailed)?)
    {
        return Err(ErrorCode::AuthFailed);
    }
    let mut segment = || -> Result<String, ErrorCode> {
        let bytes = decoded(segments.next().ok_or(ErrorCode::UrlParseError)?).ok_or(ErrorCode::UrlParseError)?;
        String::from_utf8(bytes).map_err(|_| ErrorCode::UrlParseError)
    };
    let (identity, protocol, host) = (segment()?, segment()?, segment()?);
    let tls = match protocol.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(ErrorCode::InvalidProtocol),
    };
    let (target, authority) = target(&host, tls).ok_or(ErrorCode::InvalidHost)?;
    let rest = segments.next();
    let own_path = format!("/{}", rest.unwrap_or_default());
    let prefix = match rest {
        Some(rest) => path[..path.len() - rest.len() - 1].to_owned(),
        None => path.to_owned(),
    };
    let with_query = match uri.query() {
        Some(query) => format!("{own_path}?{query}"),
        None => own_path,
    };
    let path = with_query.parse().map_err(|_| ErrorCode::UrlParseError)?;
    Ok(Reverse { identity: Identity::parse(&identity), target, authority, path, prefix })
}

/// A host segment must be a host, perhaps with a port, and read back as exactly itself.
fn target(host: &str, tls: bool) -> Option<(Target, Authority)> {
    let colons = host.bytes().filter(|b| *b == b':').count();
    if host.is_empty()
        || host.ends_with(':')
        || host.contains(['/', ' ', '\t', '\n', '\r', '@'])
        || (colons > 1 && !host.starts_with('['))
    {
        return None;
    }
    let authority: Authority = host.parse().ok()?;
    (authority.as_str() == host).then_some(())?;
    Some((checks::target(&authority, tls)?, authority))
}

/// Percent-decoded bytes; `None` if an escape is broken.
fn decoded(segment: &str) -> Option<Vec<u8>> {
    let mut bytes = segment.bytes();
    let mut out = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let (high, low) = (bytes.next()?, bytes.next()?);
        let digit = |b: u8| (b as char).to_digit(16);
        out.push((digit(high)? * 16 + digit(low)?) as u8);
    }
    Some(out)
}

/// Keeps the gateway's own URLs, and the token in them, from the target (RFC 9110 §17.9): a `Referer` of the path form
/// becomes the URL it stands for, and one that cannot be read is dropped.
pub(crate) fn clean_referer(headers: &mut HeaderMap, token: Option<&Token>, path_form: bool) {
    let Some(referer) = headers.get(header::REFERER) else { return };
    if !path_form && token.is_none() {
        return;
    }
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let uri: Option<Uri> = Uri::try_from(referer.as_bytes()).ok();
    let own = uri.as_ref().and_then(Uri::authority).is_some_and(|a| host == Some(a.as_str().as_bytes()));
    match uri {
        Some(_) if !own => {}
        Some(uri) => match parse(&uri, token) {
            Ok(r) => {
                let scheme = if r.target.tls { "https" } else { "http" };
                let url = HeaderValue::try_from(format!("{scheme}://{}{}", r.authority, r.path));
                headers.insert(header::REFERER, url.expect("its parts were parts of a URL"));
            }
            // A page of a route: its URL has no token, and the origin knows it as its own.
            Err(_) if !path_form => {}
            Err(_) => drop(headers.remove(header::REFERER)),
        },
        None => drop(headers.remove(header::REFERER)),
    }
}

/// A redirect to a path of the target, rewritten so that a client of the path form stays behind the gateway.
///
/// Only paths are rewritten (`/login`); a full URL leaves on purpose, and the gateway's token is never put into one.
pub(crate) fn rewritten_location(location: &str, prefix: &str) -> Option<String> {
    (location.starts_with('/') && !location.starts_with("//")).then(|| format!("{prefix}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, token: Option<&str>) -> String {
        let token = token.map(|t| Token::try_new(t).unwrap());
        match parse(&path.parse().unwrap(), token.as_ref()) {
            Ok(r) => format!(
                "{}|{} {} {} {}",
                r.identity.platform,
                r.identity.account,
                if r.target.tls { "tls" } else { "plain" },
                r.authority,
                r.path
            ),
            Err(code) => code.as_str().to_owned(),
        }
    }

    #[test]
    fn the_path_form_is_read_segment_by_segment() {
        for (path, token, expected) in [
            ("/t/Nimbus.Tom/https/h/a/b?q=1", Some("t"), "Nimbus|Tom tls h /a/b?q=1"),
            ("/t/.Tom/http/h:8080", Some("t"), "|Tom plain h:8080 /"),
            ("/t/./http/h/", Some("t"), "| plain h /"),
            ("/t/Nimbus/HTTP/h//x/", Some("t"), "Nimbus| plain h //x/"),
            ("//P/https/h/", None, "P| tls h /"),
            ("/anything/P/https/h/", None, "P| tls h /"),
            ("/t/MyHub.ops%2Fprod%3Feu%231/http/h/%2F%20", Some("t"), "MyHub|ops/prod?eu#1 plain h /%2F%20"),
            ("/t/P/http/%5B::1%5D:80/", Some("t"), "P| plain [::1]:80 /"),
            ("/x/P/http/h/", Some("t"), "AUTH_FAILED"),
            ("/", Some("t"), "AUTH_FAILED"),
            ("/%zz/P/http/h/", Some("t"), "AUTH_FAILED"),
            ("/t/P/http", Some("t"), "URL_PARSE_ERROR"),
            ("/t/%zz/http/h/", Some("t"), "URL_PARSE_ERROR"),
            ("/t/%ff/http/h/", Some("t"), "URL_PARSE_ERROR"),
            ("/t/P/ftp/h/", Some("t"), "INVALID_PROTOCOL"),
            ("/t/P/http//", Some("t"), "INVALID_HOST"),
            ("/t/P/http/u%40h/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/a:b:c/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/h:99999/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/h:/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/h%0d%0a/", Some("t"), "INVALID_HOST"),
        ] {
            assert_eq!(shown(path, token), expected, "{path}");
        }
    }

    #[test]
    fn the_gateways_own_urls_do_not_reach_the_target() {
        let token = Token::try_new("sesame").unwrap();
        let cleaned = |referer: &'static str, path_form| {
            let mut map = HeaderMap::new();
            map.insert(header::HOST, HeaderValue::from_static("gw:1"));
            map.insert(header::REFERER, HeaderValue::from_static(referer));
            clean_referer(&mut map, Some(&token), path_form);
            map.get(header::REFERER).map(|v| v.to_str().unwrap().to_owned())
        };
        let own = "http://gw:1/sesame/P.a/https/h/page?q";
        assert_eq!(cleaned(own, true).as_deref(), Some("https://h/page?q"));
        assert_eq!(cleaned(own, false).as_deref(), Some("https://h/page?q"));
        assert_eq!(cleaned("http://gw:1/else", true), None);
        assert_eq!(cleaned("http://gw:1/else", false).as_deref(), Some("http://gw:1/else"));
        assert_eq!(cleaned("http://other/sesame/", true).as_deref(), Some("http://other/sesame/"));
    }

    #[test]
    fn redirects_to_a_path_stay_behind_the_gateway() {
        let r = parse(&"/t/P/http/h/a?b".parse().unwrap(), None).unwrap();
        assert_eq!(rewritten_location("/login?x", &r.prefix).unwrap(), "/t/P/http/h/login?x");
        assert_eq!(rewritten_location("https://else.where/", &r.prefix), None);
        assert_eq!(rewritten_location("//else.where/", &r.prefix), None);
        let bare = parse(&"/t/P/http/h".parse().unwrap(), None).unwrap();
        assert_eq!(rewritten_location("/x", &bare.prefix).unwrap(), "/t/P/http/h/x");
    }
}
