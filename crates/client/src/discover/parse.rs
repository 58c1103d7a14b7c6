//! Reads lists of regions and how long they hold. Pure: what comes from the network is bounded here, and never panics.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use url::Url;

/// The most regions of one list that are kept. A policy allows 32 attempts at most, so twice as many leave a choice.
pub(super) const REGIONS_MAX: usize = 64;

/// The longest time that a list is believed. Regions come and go with deployments: one that asks for more than a day
/// would outlive what it lists, and a mistyped figure would hold until the process is restarted.
pub(super) const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A list as a server writes it. Fields besides `url` (a name, a distance) are for people: the order says what is best.
#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    regions: Option<Vec<Region>>,
}

#[derive(Deserialize)]
struct Region {
    #[serde(default)]
    url: Option<String>,
}

/// The origins of a list in its order, each once. Entries without a usable URL are skipped.
pub(super) fn parse_regions(body: &[u8]) -> Result<Vec<Url>, serde_json::Error> {
    let listing: Listing = serde_json::from_slice(body)?;
    let urls = listing.regions.unwrap_or_default().into_iter().filter_map(|region| Url::parse(&region.url?).ok());
    Ok(normalised(urls))
}

/// The origins of these URLs in their order, each host and port once, not more than [`REGIONS_MAX`].
pub(super) fn normalised(urls: impl IntoIterator<Item = Url>) -> Vec<Url> {
    let mut kept: Vec<Url> = Vec::new();
    for origin in urls.into_iter().filter_map(|url| origin_of(&url)) {
        let known = kept.iter().any(|other| authority(other) == authority(&origin));
        if !known && kept.len() < REGIONS_MAX {
            kept.push(origin);
        }
    }
    kept
}

/// The URL with nothing but scheme, host and port, `ws` and `wss` read as what they start as. `None` if it is no place
/// for HTTP. The `url` crate has lower-cased the host and dropped the scheme's own port.
///
/// What a region adds to that is dropped: a path would change what is requested, a password whom it is requested as.
pub(super) fn origin_of(url: &Url) -> Option<Url> {
    let scheme = match url.scheme() {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        _ => return None,
    };
    let host = url.host_str()?;
    let text = match url.port() {
        Some(port) => format!("{scheme}://{host}:{port}/"),
        None => format!("{scheme}://{host}/"),
    };
    Url::parse(&text).ok()
}

/// What makes two endpoints the same place: host and port, whatever the scheme.
fn authority(url: &Url) -> (Option<&str>, Option<u16>) {
    (url.host_str(), url.port_or_known_default())
}

/// How long an answer may be believed by its `Cache-Control` fields; `None` if they do not say, or say not at all.
pub(super) fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let texts: Vec<&str> = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).collect();
    parse_max_age(&texts.join(","))
}

/// `max-age` of a `Cache-Control` field (RFC 9111 §5.2.2.1): a number of seconds above zero, at most [`TTL_MAX`]. More
/// digits than a number can have count as the largest (§1.2.2). `no-cache` and `no-store` beside it have the last word.
pub(super) fn parse_max_age(text: &str) -> Option<Duration> {
    let mut age = None;
    for directive in directives(text) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-cache") || name.eq_ignore_ascii_case("no-store") {
            return None;
        }
        if name.eq_ignore_ascii_case("max-age") && age.is_none() {
            age = Some(seconds(value));
        }
    }
    age.flatten()
}

/// The parts between commas that are not within quotes, without the blanks around them.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    })
    .map(str::trim)
}

/// Digits, in quotes or not, as a time above zero.
fn seconds(value: &str) -> Option<Duration> {
    let digits = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The only error left is a number that is too large.
    let seconds = digits.parse().unwrap_or(u64::MAX);
    (seconds > 0).then(|| Duration::from_secs(seconds).min(TTL_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn max_age_is_read_as_the_table_says() {
        let table: [(&str, Option<u64>); 22] = [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("Max-Age=\"60\"", Some(60)),
            ("public, max-age=60", Some(60)),
            ("public,max-age=60,must-revalidate", Some(60)),
            ("max-age=60, max-age=5", Some(60)),
            ("private=\"set-cookie, max-age=9\", max-age=60", Some(60)),
            ("max-age=86401", Some(86_400)),
            ("max-age=99999999999999999999999", Some(86_400)),
            ("", None),
            ("no-cache", None),
            ("no-store", None),
            ("max-age=60, no-store", None),
            ("No-Cache, max-age=60", None),
            ("max-age=0", None),
            ("max-age=", None),
            ("max-age", None),
            ("max-age=abc", None),
            ("max-age=-1", None),
            ("max-age=1.5", None),
            ("max-age=+5", None),
            ("s-maxage=60, x-max-age=60", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_max_age(text), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn max_age_may_be_in_any_of_several_fields() {
        let mut headers = HeaderMap::new();
        assert_eq!(max_age(&headers), None);
        headers.append(CACHE_CONTROL, "public".parse().unwrap());
        headers.append(CACHE_CONTROL, "max-age=7".parse().unwrap());
        assert_eq!(max_age(&headers), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_url_is_reduced_to_where_it_leads() {
        let table = [
            ("https://EU.Example", Some("https://eu.example/")),
            ("wss://eu.example", Some("https://eu.example/")),
            ("ws://eu.example:80/rtc", Some("http://eu.example/")),
            ("WSS://eu.example:443", Some("https://eu.example/")),
            ("http://eu.example:443", Some("http://eu.example:443/")),
            ("ws://eu.example:443", Some("http://eu.example:443/")),
            ("https://user:secret@eu.example:8443/a/b?c=d#e", Some("https://eu.example:8443/")),
            ("http://[::1]:9999/", Some("http://[::1]:9999/")),
            ("http://127.1", Some("http://127.0.0.1/")),
            ("ftp://eu.example", None),
            ("file:///etc/passwd", None),
            ("data:,x", None),
        ];
        for (text, expected) in table {
            let origin = origin_of(&Url::parse(text).unwrap());
            assert_eq!(origin.as_ref().map(Url::as_str), expected, "{text}");
        }
    }

    fn parsed(body: &str) -> Vec<String> {
        parse_regions(body.as_bytes()).unwrap().into_iter().map(String::from).collect()
    }

    #[test]
    fn a_list_keeps_the_order_of_the_server() {
        let body = r#"{"regions":[
            {"region":"c","url":"wss://c.example","distance":"900"},
            {"region":"a","url":"https://a.example","distance":1},
            {"region":"b","url":"https://b.example"}]}"#;
        assert_eq!(parsed(body), ["https://c.example/", "https://a.example/", "https://b.example/"]);
    }

    #[test]
    fn what_is_no_place_for_http_is_skipped_and_what_is_twice_is_once() {
        let body = r#"{"more":{"x":[1]},"regions":[
            {"url":"https://a.example"}, {"url":"not a url"}, {"url":""}, {"url":null}, {}, {"region":"b"},
            {"url":"ftp://b.example"}, {"url":"wss://A.EXAMPLE:443/rtc"}, {"url":"http://a.example:443"},
            {"url":"http://a.example"}]}"#;
        assert_eq!(parsed(body), ["https://a.example/", "http://a.example/"]);
    }

    #[test]
    fn a_list_without_regions_is_empty_and_what_is_no_list_is_an_error() {
        for empty in ["{}", r#"{"regions":null}"#, r#"{"regions":[]}"#] {
            assert!(parsed(empty).is_empty(), "{empty}");
        }
        for wrong in ["", "<html>", "[]x", "7", r#"{"regions":7}"#, r#"{"regions":[{"url":7}]}"#] {
            assert!(parse_regions(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let urls = (0..1000).map(|n| Url::parse(&format!("https://r{n}.example")).unwrap());
        let kept = normalised(urls);
        assert_eq!(kept.len(), REGIONS_MAX);
        assert_eq!(kept[63].host_str(), Some("r63.example"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,60}") {
            let _ = parse_regions(&body);
            let _ = parse_max_age(&text);
        }

        #[test]
        fn no_url_panics_and_each_has_one_form(text in "(https?|wss?|ftp)://[a-zA-Z0-9.:@\\[\\]/?%#é-]{0,24}") {
            let entry = serde_json::json!({ "regions": [{ "url": text }, { "url": text }] });
            let urls = parse_regions(entry.to_string().as_bytes()).unwrap();
            prop_assert!(urls.len() <= 1);
            for url in urls {
                prop_assert_eq!(origin_of(&url), Some(url.clone()));
                prop_assert_eq!((url.path(), url.query(), url.username()), ("/", None, ""));
            }
        }

        #[test]
        fn an_age_is_above_zero_and_bounded(text in "(public|max-age|no-store|,| |=|\"|[0-9]{1,25}){0,8}") {
            if let Some(age) = parse_max_age(&text) {
                prop_assert!(age > Duration::ZERO && age <= TTL_MAX);
            }
        }
    }
}
