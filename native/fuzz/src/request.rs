//! The request's head: whatever strings it is made of, it is refused or is a request that HTTP/2 can carry.

use arbitrary::{Arbitrary, Unstructured};
use hackney_engine::h2::RequestHead;
use hackney_engine::h2::fuzzing::request;
use http::{HeaderMap, HeaderName, HeaderValue};

#[derive(Debug, Arbitrary)]
struct Case {
    method: String,
    authority: String,
    path: String,
    https: bool,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        let pair = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = pair {
            headers.append(name, value);
        }
    }
    assert!(
        headers
            .iter()
            .all(|(name, value)| is_field(name.as_str(), value.as_bytes()))
    );
    let head = RequestHead {
        method: case.method,
        authority: case.authority,
        path: case.path,
        headers,
        protocol: None,
    };
    let scheme = if case.https { "https" } else { "http" };
    let Ok(request) = request(head.clone(), scheme) else {
        return;
    };
    assert_eq!(request.method().as_str(), head.method);
    assert!(request.method().as_str().bytes().all(is_token), "{head:?}");
    assert_eq!(request.headers(), &head.headers);
    let uri = request.uri();
    // A tunnel has none (RFC 9113, 8.5).
    assert_eq!(uri.scheme_str(), (head.method != "CONNECT").then_some(scheme));
    // What goes out as :authority and :path cannot end a line or begin a second request further on, where a proxy speaks HTTP/1.
    for part in [
        uri.authority().map(|a| a.as_str()),
        uri.path_and_query().map(|p| p.as_str()),
    ] {
        let part = part.unwrap_or_default();
        assert!(part.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{part:?}");
    }
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9113, 8.2.1.
fn is_field(name: &str, value: &[u8]) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase())
        && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}
