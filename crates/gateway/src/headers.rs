//! Which header fields pass the gateway, in both directions (RFC 9110 §7.6.1), and which would betray the client.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use crate::errors::{self, ErrorCode};

/// The account of a request, for platforms that tell accounts apart (reverse door); consumed here.
pub(crate) const ACCOUNT: HeaderName = HeaderName::from_static("x-handover-account");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hop-by-hop whether or not a `Connection` field names them. `Trailer` stays: trailers pass, and it announces them.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The gateway's own words to its clients: from a node they would be forged.
const OWN: [HeaderName; 2] = [errors::ERROR_HEADER, errors::ID_HEADER];

/// Fields that tell the origin who the client is.
const IDENTITY: [&str; 12] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-proxyuser-ip",
];

/// `Connection` options that the two ends use between themselves.
fn is_connection_option(token: &str) -> bool {
    ["close", "keep-alive", "upgrade", "te", "http2-settings", "proxy-connection"]
        .iter()
        .any(|t| token.eq_ignore_ascii_case(t))
}

/// Fields that a client must not have removed by naming them in `Connection`: doing so changes framing, routing or identity
/// behind the gateway's back (CVE-2022-31813 and CVE-2024-45410 are of this kind).
fn may_be_nominated(token: &str) -> bool {
    const KEPT: [&str; 7] =
        ["host", "content-length", "content-type", "authorization", "cookie", "set-cookie", "x-handover-account"];
    let has_prefix = token.get(..12).is_some_and(|p| p.eq_ignore_ascii_case("x-forwarded-"));
    !has_prefix && !KEPT.iter().chain(&IDENTITY).any(|k| token.eq_ignore_ascii_case(k))
}

/// How many fields one message may nominate. Real clients name one or two; more is an attack on the parser behind.
const NOMINATED_MAX: usize = 10;

/// Removes what is meant for this hop only. Refuses a `Connection` field that names what it must not.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Result<(), ErrorCode> {
    if !has_any(headers, &HOP_BY_HOP) {
        return Ok(());
    }
    let trailers = has_te_trailers(headers);
    if headers.contains_key(header::CONNECTION) {
        for name in nominated(headers)? {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    Ok(())
}

/// A length that the node said several times, which is allowed where it says the same (RFC 9110 §8.6), is passed on once.
fn one_length(headers: &mut HeaderMap) {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(first), second) = (all.next(), all.next()) else { return };
    if second.is_none() && !first.as_bytes().contains(&b',') {
        return;
    }
    let once = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    if let Ok(once) = HeaderValue::from_bytes(once) {
        headers.insert(header::CONTENT_LENGTH, once);
    }
}

/// Whether any of these fields is there. Most messages have few fields and none of these: looking at what there is costs
/// less than looking for each.
fn has_any(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    headers.keys().any(|name| names.contains(name))
}

fn has_te_trailers(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::TE).iter();
    all.any(|v| v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))))
}

fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>, ErrorCode> {
    let mut names = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let text = value.to_str().map_err(|_| ErrorCode::BadRequest("Malformed Connection header"))?;
        for token in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            if is_connection_option(token) {
                continue;
            }
            let name = HeaderName::from_bytes(token.as_bytes());
            let name = name.map_err(|_| ErrorCode::BadRequest("Malformed Connection header"))?;
            if !may_be_nominated(token) || names.len() == NOMINATED_MAX {
                return Err(ErrorCode::BadRequest("Connection header names a field that it must not"));
            }
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes what would tell the origin who the client is.
pub(crate) fn strip_identity(headers: &mut HeaderMap) {
    // Almost no request has any of them, and looking at the few names it has is cheaper than twelve look-ups.
    let has_any = headers.keys().any(|name| IDENTITY.contains(&name.as_str()));
    if has_any {
        for name in IDENTITY {
            headers.remove(name);
        }
    }
}

/// HTTP/2 lets a client split its cookies into several fields; for HTTP/1.1 they have to be one (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1 {
        let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).expect("its parts were values");
        headers.insert(header::COOKIE, joined);
    }
}

/// Tells the origin who the client is: appends its address, as the last of the chain.
pub(crate) fn append_forwarded(headers: &mut HeaderMap, client: IpAddr) {
    let chain: Vec<&str> = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).collect();
    let chain = if chain.is_empty() { client.to_string() } else { format!("{}, {client}", chain.join(", ")) };
    if let Ok(value) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// Whether a response's end is beyond doubt. With both a length and a coding, whoever is behind the node may have read it
/// otherwise (RFC 9112 §6.3): its connection must not carry another request.
pub(crate) fn has_one_framing(headers: &HeaderMap) -> bool {
    !(headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH))
}

/// The same for responses: a node's or origin's framing is its own; what it names is dropped, never refused, and the
/// gateway's own words stay the gateway's.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    one_length(headers);
    if !has_any(headers, &HOP_BY_HOP) && !has_any(headers, &OWN) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        for name in nominated_in_response(headers) {
            headers.remove(name);
        }
    }
    // The coding was what framed it, and goes with this hop: the length is wrong (RFC 9112 §6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP.iter().chain(&OWN) {
        headers.remove(name);
    }
}

/// What may be removed of what a response's `Connection` names. One bad name does not keep the others.
fn nominated_in_response(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter();
    let tokens = lines.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let tokens = tokens.filter_map(|token| std::str::from_utf8(token).ok());
    let tokens = tokens.filter(|token| !is_connection_option(token) && may_be_nominated(token));
    tokens.filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect()
}

/// Whether the request asks to switch to WebSocket, the only protocol that is switched to.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers
        .get_all(header::CONNECTION)
        .iter()
        .any(|v| v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade"))));
    upgrade && is_websocket(headers)
}

/// Whether `Upgrade` names WebSocket and nothing else.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::UPGRADE).iter();
    all.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket")) && all.next().is_none()
}

/// Puts the switch to WebSocket back, after hop-by-hop fields were removed.
pub(crate) fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Trailers may not change framing, routing or authentication after the fact (RFC 9110 §6.5.1).
pub(crate) fn without_forbidden_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    let Ok(mut trailers) = (if frame.is_trailers() { frame.into_trailers() } else { return frame }) else {
        return Frame::trailers(HeaderMap::new());
    };
    for name in [
        header::CONTENT_LENGTH,
        header::HOST,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::SET_COOKIE,
        header::COOKIE,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::TRAILER,
        header::CACHE_CONTROL,
        header::EXPECT,
        header::LOCATION,
    ] {
        trailers.remove(name);
    }
    for name in HOP_BY_HOP.iter().chain(&OWN) {
        trailers.remove(name);
    }
    strip_identity(&mut trailers);
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        map
    }

    fn names(map: &HeaderMap) -> String {
        let mut all: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        all.sort_unstable();
        all.join(" ")
    }

    #[test]
    fn a_length_that_is_said_twice_is_said_once() {
        for lengths in [&["5, 5"][..], &["5,5"], &["5", "5"], &["5"]] {
            let mut m = HeaderMap::new();
            for length in lengths {
                m.append(header::CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            strip_response(&mut m);
            let all: Vec<_> = m.get_all(header::CONTENT_LENGTH).iter().collect();
            assert_eq!(all, ["5"], "{lengths:?}");
        }
    }

    #[test]
    fn every_connection_line_counts_even_behind_an_empty_one() {
        let mut m = map(&[
            ("connection", ""),
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "5"),
            ("te", "gzip"),
            ("proxy-authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("proxy-connection", "keep-alive"),
            ("trailer", "x-sum"),
        ]);
        strip_hop_by_hop(&mut m).unwrap();
        assert_eq!(names(&m), "trailer x-three");
    }

    #[test]
    fn te_trailers_survives_as_the_gateways_own() {
        let mut m = map(&[("te", "gzip;q=0.5, trailers"), ("connection", "te")]);
        strip_hop_by_hop(&mut m).unwrap();
        assert_eq!((m["te"].as_bytes(), m["connection"].as_bytes()), (&b"trailers"[..], &b"te"[..]));
    }

    #[test]
    fn fields_that_carry_framing_routing_or_identity_cannot_be_nominated_away() {
        for bad in [
            "host",
            "Content-Length",
            "authorization",
            "Cookie",
            "X-Forwarded-Proto",
            "via",
            "x-handover-account",
            "a b",
        ]
        .iter()
        .chain(&IDENTITY)
        {
            let mut m = map(&[("connection", bad)]);
            assert!(strip_hop_by_hop(&mut m).is_err(), "{bad}");
        }
        let many: Vec<String> = (0..=NOMINATED_MAX).map(|i| format!("x-{i}")).collect();
        assert!(strip_hop_by_hop(&mut map(&[("connection", &many.join(","))])).is_err());
        assert!(strip_hop_by_hop(&mut map(&[("connection", &many[1..].join(","))])).is_ok());
    }

    #[test]
    fn a_response_loses_what_it_names_and_keeps_what_it_must_not_name() {
        let mut m = map(&[
            ("connection", "x-int, via, set-cookie, content-type, a b"),
            ("connection", "close, X-Other"),
            ("x-int", "1"),
            ("x-other", "1"),
            ("via", "1.1 origin"),
            ("set-cookie", "a=b"),
            ("content-type", "text/plain"),
            ("x-handover-error", "AUTH_REQUIRED"),
            ("x-handover-id", "1"),
        ]);
        m.append(header::CONNECTION, HeaderValue::from_bytes(b"\xff, x-third").unwrap());
        m.append("x-third", HeaderValue::from_static("1"));
        strip_response(&mut m);
        assert_eq!(names(&m), "content-type set-cookie via");
    }

    #[test]
    fn a_length_beside_a_coding_is_not_passed_on() {
        let mut both = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        assert!(!has_one_framing(&both));
        strip_response(&mut both);
        assert!(both.is_empty());
        let mut one = map(&[("content-length", "3")]);
        assert!(has_one_framing(&one));
        strip_response(&mut one);
        assert_eq!(names(&one), "content-length");
    }

    #[test]
    fn identity_is_removed() {
        let mut all: Vec<(&str, &str)> = IDENTITY.iter().map(|n| (*n, "1")).collect();
        all.push(("accept", "*/*"));
        let mut m = map(&all);
        strip_identity(&mut m);
        assert_eq!(names(&m), "accept");
    }

    #[test]
    fn only_websocket_is_an_upgrade() {
        assert!(asks_for_websocket(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!asks_for_websocket(&map(&[("upgrade", "websocket")])));
        assert!(!asks_for_websocket(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!asks_for_websocket(&map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")])));
    }

    #[test]
    fn trailers_lose_framing_routing_and_credentials() {
        let frame = Frame::trailers(map(&[
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("authorization", "a"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-handover-error", "AUTH_FAILED"),
            ("x-checksum", "9"),
        ]));
        let kept = without_forbidden_trailers(frame).into_trailers().unwrap();
        assert_eq!(names(&kept), "x-checksum");
    }
}
