//! `/chat`: a conversation for people to watch. One line in, one line out, while the request is still open.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};

use crate::body;
use crate::server::routes::head;

/// A line that grows longer than this is answered as far as it has come: a peer cannot make us keep more.
const LONGEST_LINE: usize = 64 * 1024;

pub(super) async fn answer(mut request: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut response = respond.send_response(head(200, "text/plain; charset=utf-8"), false)?;
    let mut lines = Lines::default();
    let mut serial = 0_u64;
    body::send(
        &mut response,
        "Hello! Send me a line, I answer while you go on.\n".into(),
    )
    .await?;
    while let Some(data) = body::receive(&mut request).await? {
        lines.push(data);
        while let Some(line) = lines.next_line() {
            serial += 1;
            body::send(&mut response, reply(serial, &line)).await?;
        }
    }
    if let Some(line) = lines.rest() {
        serial += 1;
        body::send(&mut response, reply(serial, &line)).await?;
    }
    body::send(&mut response, format!("You sent {serial} lines. Goodbye!\n").into()).await?;

    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-lines", HeaderValue::from(serial));
    response.send_trailers(trailers)
}

fn reply(serial: u64, line: &[u8]) -> Bytes {
    let said: String = String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    format!("Line {serial}, {} bytes, heard: \"{said}\"\n", line.len()).into()
}

/// Cuts a byte stream into lines: DATA frames know nothing of messages, they may end in the middle of one.
#[derive(Debug, Default)]
struct Lines {
    pending: BytesMut,
}

impl Lines {
    fn push(&mut self, data: Bytes) {
        self.pending.extend_from_slice(&data);
    }

    /// The next whole line, without its line feed.
    fn next_line(&mut self) -> Option<Bytes> {
        match self.pending.iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                let line = self.pending.split_to(at).freeze();
                self.pending.advance(1);
                Some(line)
            }
            None if self.pending.len() > LONGEST_LINE => Some(self.pending.split().freeze()),
            None => None,
        }
    }

    /// What came after the last line feed, at the end of the request.
    fn rest(&mut self) -> Option<Bytes> {
        (!self.pending.is_empty()).then(|| self.pending.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_across_frames() {
        let mut lines = Lines::default();
        lines.push(Bytes::from_static(b"one\ntw"));
        assert_eq!(lines.next_line().as_deref(), Some(&b"one"[..]));
        assert_eq!(lines.next_line(), None);
        lines.push(Bytes::from_static(b"o\n\nend"));
        assert_eq!(lines.next_line().as_deref(), Some(&b"two"[..]));
        assert_eq!(lines.next_line().as_deref(), Some(&b""[..]));
        assert_eq!(lines.next_line(), None);
        assert_eq!(lines.rest().as_deref(), Some(&b"end"[..]));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        lines.push(Bytes::from(vec![b'x'; LONGEST_LINE + 1]));
        assert_eq!(lines.next_line().map(|line| line.len()), Some(LONGEST_LINE + 1));
        assert_eq!(lines.rest(), None);
    }
}
