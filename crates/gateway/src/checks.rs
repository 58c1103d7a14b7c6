//! The rules of HTTP that the parser leaves to the gateway, and where a request wants to go.

use http::uri::Authority;
use http::{HeaderMap, Method, Request, Uri, Version, header};

use crate::errors::ErrorCode;
use handover_wire::dial::{Host, Target};

pub(crate) const BAD_HOST: ErrorCode = ErrorCode::BadRequest("A request needs exactly one valid Host");
const BAD_CONNECT: ErrorCode =
    ErrorCode::BadRequest("CONNECT needs host:port with a port from 1 to 65535, and no body");
const BAD_ENCODING: ErrorCode = ErrorCode::BadRequest("Transfer-Encoding must be chunked, once");
const BAD_TARGET: ErrorCode =
    ErrorCode::BadRequest("The request target must be http or https without user information");

/// What a request's target is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// CONNECT, or absolute-form to a proxy: this is the target.
    Connect(Target),
    /// As for a proxy; the authority is as the client wrote it.
    Forward(Target, Authority),
    /// A path on this server.
    Origin,
}

/// Checks a request's target, `Host` and framing.
///
/// # Errors
/// What the request breaks; it must not be forwarded, and the connection should be closed.
pub(crate) fn form_of<B>(request: &Request<B>) -> Result<Form, ErrorCode> {
    let headers = request.headers();
    framing(headers)?;
    let http2 = request.version() == Version::HTTP_2;
    let host = host(headers, request.version())?;
    if request.method() == Method::CONNECT {
        return connect(request).map(Form::Connect);
    }
    let (Some(scheme), Some(authority)) = (request.uri().scheme_str(), request.uri().authority()) else {
        if request.uri().authority().is_some() {
            return Err(BAD_TARGET);
        }
        return Ok(Form::Origin);
    };
    if has_user_information(authority) {
        return Err(BAD_TARGET);
    }
    if http2 {
        // HTTP/2 always has scheme and authority. A Host beside them must say the same (RFC 9113 §8.3.1).
        let same = host.is_none_or(|host| host.eq_ignore_ascii_case(authority.as_str()));
        return if same && is_sound(authority) { Ok(Form::Origin) } else { Err(BAD_HOST) };
    }
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return Err(BAD_TARGET),
    };
    let target = target(authority, tls).ok_or(BAD_TARGET)?;
    Ok(Form::Forward(target, authority.clone()))
}

fn framing(headers: &HeaderMap) -> Result<(), ErrorCode> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(BAD_ENCODING),
    }
}

/// The value of `Host`: exactly one, except that HTTP/1.0 and HTTP/2 may do without.
fn host(headers: &HeaderMap, version: Version) -> Result<Option<&str>, ErrorCode> {
    let mut all = headers.get_all(header::HOST).iter();
    let (first, second) = (all.next(), all.next());
    if second.is_some() {
        return Err(BAD_HOST);
    }
    let Some(value) = first else {
        return if version == Version::HTTP_11 { Err(BAD_HOST) } else { Ok(None) };
    };
    let text = value.to_str().map_err(|_| BAD_HOST)?;
    let authority: Authority = text.parse().map_err(|_| BAD_HOST)?;
    if is_sound(&authority) { Ok(Some(text)) } else { Err(BAD_HOST) }
}

/// The host, perhaps with a port, that a request names; empty if it names none. HTTP/2 has it in the target.
pub(crate) fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a str {
    let header = headers.get(header::HOST).and_then(|v| v.to_str().ok());
    header.or_else(|| uri.authority().map(Authority::as_str)).unwrap_or_default()
}

fn has_user_information(authority: &Authority) -> bool {
    authority.as_str().contains('@')
}

/// The port that is written, if one is; `host:` alone means the default. `None`: it is no number up to 65535, or has more
/// than digits (RFC 3986 §3.2.3), which others would read differently, such as `+80`. Without user information only.
fn port_of(authority: &Authority) -> Option<Option<u16>> {
    let digits = match &authority.as_str()[authority.host().len()..] {
        "" | ":" => return Some(None),
        rest => rest.strip_prefix(':')?,
    };
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    number.map(Some)
}

/// Whether it is a host, perhaps with a port, and nothing else.
fn is_sound(authority: &Authority) -> bool {
    !has_user_information(authority) && !authority.host().is_empty() && port_of(authority).is_some()
}

fn connect<B>(request: &Request<B>) -> Result<Target, ErrorCode> {
    let uri = request.uri();
    // In HTTP/2 the form is the same: an authority and nothing else (RFC 9113 §8.5).
    let no_path = uri.path_and_query().is_none_or(|p| p.as_str().is_empty());
    let authority = uri.authority().filter(|a| uri.scheme().is_none() && no_path && is_sound(a));
    let authority = authority.ok_or(BAD_CONNECT)?;
    let body = request.headers().get(header::CONTENT_LENGTH).is_some_and(|v| v.as_bytes() != b"0")
        || request.headers().contains_key(header::TRANSFER_ENCODING);
    match port_of(authority).flatten() {
        Some(port) if port > 0 && !body => Ok(Target { host: Host::parse(authority.host()), port, tls: false }),
        _ => Err(BAD_CONNECT),
    }
}

/// The target of an authority, with the scheme's own port where none is written.
pub(crate) fn target(authority: &Authority, tls: bool) -> Option<Target> {
    if !is_sound(authority) {
        return None;
    }
    let port = port_of(authority)?.unwrap_or(if tls { 443 } else { 80 });
    (port > 0).then(|| Target { host: Host::parse(authority.host()), port, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match form_of(&request.body(()).unwrap()) {
            Ok(Form::Connect(t)) => format!("connect {t:?}"),
            Ok(Form::Forward(t, a)) => format!("forward {a} {} {}", t.port, t.tls),
            Ok(Form::Origin) => "origin".to_owned(),
            Err(code) => code.body().to_owned(),
        }
    }

    const HOST: (&str, &str) = ("host", "h");

    #[test]
    fn the_three_forms_are_told_apart() {
        assert_eq!(shown("GET", "/p", &[HOST]), "origin");
        assert_eq!(shown("GET", "http://h/p", &[HOST]), "forward h 80 false");
        assert_eq!(shown("GET", "https://h:8443/p", &[("host", "other")]), "forward h:8443 8443 true");
        assert!(shown("CONNECT", "h:443", &[HOST]).starts_with("connect"));
    }

    #[test]
    fn host_must_be_one_and_valid() {
        for headers in [
            &[][..],
            &[HOST, HOST],
            &[("host", "u@h")],
            &[("host", "a b")],
            &[("host", "h/p")],
            &[("host", "")],
            &[("host", "h:99999")],
            &[("host", ":80")],
            &[("host", "h:+80")],
            &[("host", "[::1]:+80")],
        ] {
            assert_eq!(shown("GET", "/", headers), BAD_HOST.body(), "{headers:?}");
        }
        for good in ["h", "h:80", "[::1]:80", "h:", "1.2.3.4"] {
            assert_eq!(shown("GET", "/", &[("host", good)]), "origin", "{good}");
        }
    }

    #[test]
    fn connect_is_host_and_port_and_nothing_else() {
        for uri in ["h:0", "h:+80", "h:99999", "http://h:1/", "h"] {
            assert_eq!(shown("CONNECT", uri, &[HOST]), BAD_CONNECT.body(), "{uri}");
        }
        assert_eq!(shown("CONNECT", "h:1", &[HOST, ("content-length", "1")]), BAD_CONNECT.body());
        assert_eq!(shown("CONNECT", "h:1", &[HOST, ("transfer-encoding", "chunked")]), BAD_CONNECT.body());
    }

    #[test]
    fn transfer_encoding_is_chunked_once() {
        for codings in [&["chunked", "chunked"][..], &["gzip, chunked"], &["chunked, chunked"], &["identity"], &[""]] {
            let mut headers = vec![HOST];
            headers.extend(codings.iter().map(|c| ("transfer-encoding", *c)));
            assert_eq!(shown("POST", "/", &headers), BAD_ENCODING.body(), "{codings:?}");
        }
        assert_eq!(shown("POST", "/", &[HOST, ("transfer-encoding", "Chunked")]), "origin");
    }

    #[test]
    fn targets_with_credentials_or_other_schemes_are_refused() {
        assert_eq!(shown("GET", "http://u:p@h/", &[HOST]), BAD_TARGET.body());
        assert_eq!(shown("GET", "ftp://h/", &[HOST]), BAD_TARGET.body());
        assert_eq!(shown("GET", "http://h:0/", &[HOST]), BAD_TARGET.body());
        assert_eq!(shown("GET", "http://h:+80/", &[HOST]), BAD_TARGET.body());
    }
}
