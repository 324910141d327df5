//! `/source?bytes=N&chunk=M`: N bytes, as fast as the peer takes them.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

use crate::body;
use crate::server::fixed;
use crate::server::routes::head;

/// Pieces are slices of this: nothing is copied before TLS encrypts it.
static PATTERN: [u8; 1 << 20] = [b'h'; 1 << 20];
/// The largest DATA frame that every peer takes (RFC 9113, section 4.2).
const DEFAULT_CHUNK: usize = 16_384;

/// Length of the response and of each of its pieces.
#[derive(Debug, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    chunk: usize,
}

pub(super) async fn answer(
    query: &str,
    mut request: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let Some(Amount { bytes, chunk }) = parse(query) else {
        return fixed::bad_request(request, respond, "/source?bytes=N&chunk=M, M from 1 to 1048576\n").await;
    };
    let mut response = respond.send_response(head(200, "application/octet-stream"), bytes == 0)?;
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(chunk, |left| left.min(chunk));
        body::send(&mut response, Bytes::from_static(&PATTERN[..piece])).await?;
        left -= piece as u64;
    }
    if bytes > 0 {
        response.send_data(Bytes::new(), true)?;
    }
    body::drain(&mut request).await.map(drop)
}

fn parse(query: &str) -> Option<Amount> {
    let mut amount = Amount {
        bytes: 0,
        chunk: DEFAULT_CHUNK,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("bytes", value) => amount.bytes = value.parse().ok()?,
            ("chunk", value) => amount.chunk = value.parse().ok()?,
            _ => return None,
        }
    }
    (1..=PATTERN.len()).contains(&amount.chunk).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        assert_eq!(parse("bytes=5&chunk=2"), Some(Amount { bytes: 5, chunk: 2 }));
        assert_eq!(
            parse("bytes=5"),
            Some(Amount {
                bytes: 5,
                chunk: DEFAULT_CHUNK
            })
        );
        for wrong in ["bytes=-1", "bytes", "chunk=0", "chunk=1048577", "size=1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
