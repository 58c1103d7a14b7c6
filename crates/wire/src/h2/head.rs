//! Turns a request's head into what HTTP/2 carries (RFC 9113 §8.2.2, §8.3.1).

use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};

/// Fields about one HTTP/1.1 connection; in HTTP/2 they make a message malformed.
const OF_THE_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What a field costs beside its name and value, in bytes: two lengths and a type, without the table (RFC 7541 §6.2.1). An
/// estimate, for how many requests go out in one write.
const FIELD_BYTES: usize = 4;

/// The head as HTTP/2 carries it; `secure` says which scheme it has if it names none.
///
/// # Errors
/// What it lacks, in words.
pub(super) fn prepare(parts: request::Parts, secure: bool) -> Result<Request<()>, String> {
    let request::Parts { method, uri, mut headers, .. } = parts;
    strip(&mut headers);
    let authority = authority(&uri, headers.remove(HOST).as_ref())?;
    let mut request = Request::new(());
    let mut parts = uri.into_parts();
    parts.authority = Some(authority);
    if method == Method::CONNECT {
        (parts.scheme, parts.path_and_query) = (None, None);
    } else {
        parts.scheme.get_or_insert(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| format!("the request has no usable URI: {error}"))?;
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Removes what is about the connection, also what `Connection` names (RFC 9110 §7.6.1).
fn strip(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = named.flat_map(|list| list.split(',')).filter_map(|n| n.trim().parse().ok()).collect();
    for name in OF_THE_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
    let trailers = HeaderValue::from_static("trailers");
    if headers.get_all(TE).iter().any(|value| value != trailers) {
        headers.remove(TE);
    }
}

/// `Host`, which is what HTTP/1.1 would have carried, else that of the URI without its user (RFC 9113 §8.3.1).
fn authority(uri: &Uri, host: Option<&HeaderValue>) -> Result<Authority, String> {
    if let Some(host) = host {
        return Authority::try_from(host.as_bytes())
            .map_err(|error| format!("the field Host is no authority: {error}"));
    }
    let whole = uri.authority().ok_or("the request names no host: neither its URI nor a field Host")?;
    let plain = whole.as_str().rsplit('@').next().expect("a split gives at least one part");
    Authority::try_from(plain).map_err(|error| format!("the URI's authority cannot be sent: {error}"))
}

/// About how many bytes the head will have.
pub(super) fn bytes(head: &Request<()>) -> usize {
    let fields = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
    let uri = head.uri().path_and_query().map_or(0, |path| path.as_str().len())
        + head.uri().authority().map_or(0, |authority| authority.as_str().len());
    fields.sum::<usize>() + uri + head.method().as_str().len() + 4 * FIELD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(request: request::Builder) -> Request<()> {
        prepare(request.body(()).expect("a request").into_parts().0, false).expect("it can be carried")
    }

    #[test]
    fn fields_of_the_connection_are_left_out_and_host_becomes_the_authority() {
        let request = Request::post("/kv/a?b=c")
            .header("host", "kv.example:8443")
            .header("connection", "keep-alive, x-hop")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "keep-alive")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "websocket")
            .header("te", "gzip")
            .header("x-hop", "1")
            .header("content-length", "3")
            .header("x-token", "secret");
        let head = prepared(request);
        assert_eq!(head.uri(), "http://kv.example:8443/kv/a?b=c");
        let mut names: Vec<&str> = head.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-token"]);
    }

    #[test]
    fn a_whole_uri_keeps_its_scheme_and_loses_its_user() {
        let head = prepared(Request::get("https://me:secret@kv.example/a").header("te", "trailers"));
        assert_eq!(head.uri(), "https://kv.example/a");
        assert_eq!(head.headers()["te"], "trailers");
    }

    #[test]
    fn a_request_without_a_host_is_not_sent() {
        let parts = Request::get("/a").body(()).expect("a request").into_parts().0;
        assert!(prepare(parts, true).is_err_and(|text| text.contains("names no host")));
    }
}
