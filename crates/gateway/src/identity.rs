//! Who a request is for: `Platform.Account`, and the token that lets it in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::config::Token;
use crate::errors::ErrorCode;

/// A platform's name and an account, either may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) platform: String,
    pub(crate) account: String,
}

impl Identity {
    /// Splits at the first `.` or `:`, whichever comes first.
    pub(crate) fn parse(text: &str) -> Self {
        let (platform, account) = text.split_once(['.', ':']).unwrap_or((text, ""));
        Identity { platform: platform.to_owned(), account: account.to_owned() }
    }
}

/// The identity in `Proxy-Authorization: Basic base64(Platform.Account:TOKEN)` of the forward and CONNECT doors.
///
/// Without a token nothing is asked for, and an identity is taken from whatever can be read as one.
pub(crate) fn of_forward(headers: &HeaderMap, token: Option<&Token>) -> Result<Identity, ErrorCode> {
    let credentials = credentials(headers);
    match (token, credentials) {
        (None, credentials) => Ok(credentials.map(|c| Identity::parse(split_token(&c).0)).unwrap_or_default()),
        (Some(_), None) => Err(ErrorCode::AuthRequired),
        (Some(token), Some(credentials)) => {
            let (identity, Some(given)) = split_token(&credentials) else { return Err(ErrorCode::AuthRequired) };
            if !token.matches(given.as_bytes()) {
                return Err(ErrorCode::AuthFailed);
            }
            Ok(Identity::parse(identity))
        }
    }
}

/// Splits at the rightmost `:`: accounts may contain colons, tokens may not.
fn split_token(credentials: &str) -> (&str, Option<&str>) {
    credentials.rsplit_once(':').map_or((credentials, None), |(identity, token)| (identity, Some(token)))
}

fn credentials(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(header::PROXY_AUTHORIZATION).iter();
    let value = all.next()?.to_str().ok()?;
    if all.next().is_some() {
        return None;
    }
    let mut fields = value.split_ascii_whitespace();
    let (scheme, encoded) = (fields.next()?, fields.next()?);
    if !scheme.eq_ignore_ascii_case("basic") || fields.next().is_some() {
        return None;
    }
    String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn shown(credentials: &str, token: Option<&str>) -> String {
        let mut headers = HeaderMap::new();
        let value = format!("bAsIc {}", STANDARD.encode(credentials));
        headers.insert(header::PROXY_AUTHORIZATION, HeaderValue::try_from(value).unwrap());
        let token = token.map(|t| Token::try_new(t).unwrap());
        match of_forward(&headers, token.as_ref()) {
            Ok(Identity { platform, account }) => format!("{platform}|{account}"),
            Err(code) => code.as_str().to_owned(),
        }
    }

    #[test]
    fn identities_split_at_the_first_separator_and_tokens_at_the_last_colon() {
        for (credentials, expected) in [
            ("Nimbus.Tom:t", "Nimbus|Tom"),
            (".Tom:t", "|Tom"),
            ("Nimbus:t", "Nimbus|"),
            ("Nimbus.:t", "Nimbus|"),
            ("MyHub.bEA:234:t", "MyHub|bEA:234"),
            ("A:b.c:t", "A|b.c"),
            (":t", "|"),
            ("Nimbus.Tom:wrong", "AUTH_FAILED"),
            ("Nimbus.Tom:", "AUTH_FAILED"),
            ("no colon", "AUTH_REQUIRED"),
        ] {
            assert_eq!(shown(credentials, Some("t")), expected, "{credentials}");
        }
    }

    #[test]
    fn without_a_token_any_identity_is_taken_as_it_is() {
        for (credentials, expected) in [("P.a:whatever", "P|a"), ("P.a", "P|a"), ("P.a:b:x", "P|a:b")] {
            assert_eq!(shown(credentials, None), expected, "{credentials}");
        }
        assert_eq!(of_forward(&HeaderMap::new(), None).unwrap(), Identity::default());
    }

    #[test]
    fn what_is_not_one_basic_field_is_asked_for_again() {
        let token = Token::try_new("t").unwrap();
        for value in ["Bearer x", "Basic", "Basic a b", "Basic !!!", "Basic /w=="] {
            let mut headers = HeaderMap::new();
            headers.insert(header::PROXY_AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(of_forward(&headers, Some(&token)), Err(ErrorCode::AuthRequired), "{value}");
        }
    }
}
