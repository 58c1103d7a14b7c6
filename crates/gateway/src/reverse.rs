//! The reverse door's path form: `/<token>/<identity>/<http|https>/<host[:port]>[/path][?query]`.

use http::Uri;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};

use crate::checks;
use crate::config::Token;
use crate::errors::ErrorCode;
use crate::identity::Identity;
use handover_wire::dial::Target;

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

/// Whether the path's first segment is the token.
pub(crate) fn begins_with_token(uri: &Uri, token: &Token) -> bool {
    decoded(first_segment(uri.path())).is_some_and(|segment| token.matches(&segment))
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
///
/// One with the token in it is the gateway's own whatever host it names: a gateway has several names, and behind another
/// proxy it does not know the one that the client uses.
pub(crate) fn clean_referer(request: &mut Parts, token: Option<&Token>, path_form: bool) {
    let headers = &mut request.headers;
    if (!path_form && token.is_none()) || !headers.contains_key(header::REFERER) {
        return;
    }
    let own = checks::host_of(headers, &request.uri);
    let mut all = headers.get_all(header::REFERER).iter();
    let cleaned = match (all.next(), all.next()) {
        (Some(one), None) => cleaned(one, own, token, path_form),
        // It is one URL; of several, nobody knows which one the target reads.
        _ => Referer::Dropped,
    };
    match cleaned {
        Referer::Kept => {}
        Referer::Cleaned(url) => drop(headers.insert(header::REFERER, url)),
        Referer::Dropped => drop(headers.remove(header::REFERER)),
    }
}

/// What becomes of a `Referer`.
enum Referer {
    Kept,
    Cleaned(HeaderValue),
    Dropped,
}

fn cleaned(referer: &HeaderValue, own: &str, token: Option<&Token>, path_form: bool) -> Referer {
    let Ok(uri) = Uri::try_from(referer.as_bytes()) else { return Referer::Dropped };
    // `//host/path` is read as a path here and as a host elsewhere.
    if uri.scheme().is_none() && (uri.authority().is_some() || uri.path().starts_with("//")) {
        return Referer::Dropped;
    }
    // A reference without a host is one to the gateway.
    let names_own = uri.authority().is_none_or(|a| a.as_str().eq_ignore_ascii_case(own));
    let has_token = token.is_some_and(|token| begins_with_token(&uri, token));
    let is_the_gateways = has_token || (path_form && names_own);
    if !is_the_gateways {
        return Referer::Kept;
    }
    let Ok(read) = parse(&uri, token) else { return Referer::Dropped };
    let scheme = if read.target.tls { "https" } else { "http" };
    let url = HeaderValue::try_from(format!("{scheme}://{}{}", read.authority, read.path));
    Referer::Cleaned(url.expect("its parts were parts of a URL"))
}

/// Where the path form has its token, as it came.
pub(crate) fn first_segment(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default()
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
            ("/t/P/http/h:+80/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/h:/", Some("t"), "INVALID_HOST"),
            ("/t/P/http/h%0d%0a/", Some("t"), "INVALID_HOST"),
        ] {
            assert_eq!(shown(path, token), expected, "{path}");
        }
    }

    fn from(referers: &[&str], host: &str) -> Parts {
        let request = http::Request::get("/").header(header::HOST, host);
        let request = referers.iter().fold(request, |request, referer| request.header(header::REFERER, *referer));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_gateways_own_urls_do_not_reach_the_target() {
        let token = Token::try_new("sesame").unwrap();
        let cleaned = |referer: &str, own: &str, path_form| {
            let mut request = from(&[referer], own);
            clean_referer(&mut request, Some(&token), path_form);
            request.headers.get(header::REFERER).map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
        };
        let path = "/sesame/P.a/https/h/page?q";
        for path_form in [true, false] {
            for host in ["http://gw:1", "http://other", "https://GW", "http://user@gw:1", ""] {
                assert_eq!(cleaned(&format!("{host}{path}"), "gw:1", path_form), "https://h/page?q", "{host}");
            }
            assert_eq!(cleaned("http://gw/%73esame/P.a/https/h/page?q", "", path_form), "https://h/page?q");
            for unreadable in
                ["http://other/sesame/", "http://gw:1/sesame", "//gw:1/sesame/P.a/https/h/", "sesame", "a b"]
            {
                assert_eq!(cleaned(unreadable, "gw:1", path_form), "", "{unreadable}");
            }
            assert_eq!(cleaned("http://other/page", "gw:1", path_form), "http://other/page");
        }
        assert_eq!(cleaned("http://GW:1/else", "gw:1", true), "");
        assert_eq!(cleaned("http://gw:1/else", "gw:1", false), "http://gw:1/else");
    }

    #[test]
    fn a_second_referer_does_not_carry_the_token_on() {
        let token = Token::try_new("sesame").unwrap();
        let mut request = from(&["http://other/", "http://gw:1/sesame/P/http/h/"], "gw:1");
        clean_referer(&mut request, Some(&token), true);
        assert_eq!(request.headers.get(header::REFERER), None);
    }

    #[test]
    fn without_a_token_a_referer_of_the_path_form_is_cleaned_for_its_own_host() {
        for (referer, expected) in
            [("http://GW/x/P/http/h/a", "http://h/a"), ("http://else/x/P/http/h/a", "http://else/x/P/http/h/a")]
        {
            let mut request = from(&[referer], "gw");
            clean_referer(&mut request, None, true);
            assert_eq!(request.headers[header::REFERER], expected);
        }
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
