//! Receive windows, the same flags in both programs.

use crate::Failure;
use crate::arguments::Arguments;

/// Largest window that HTTP/2 knows (RFC 9113, section 6.9.1).
const LARGEST: u32 = (1 << 31) - 1;

/// What small unread DATA frames may cost beyond their payload: no limit. By its default the h2 crate ends a
/// connection on which many of them wait, which happens whenever a sender of small messages is faster than the
/// task that reads them. Our peers are our own tests; the windows bound what they can make us keep.
pub(crate) const DATA_FRAME_BUDGET: usize = usize::MAX / 2;

/// How much the peer may send before it has to wait, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Per stream.
    pub stream: u32,
    /// All streams of a connection together.
    pub connection: u32,
}

impl Default for Windows {
    /// The engine's own defaults, so that the bench compares like with like.
    fn default() -> Self {
        Self {
            stream: 4 << 20,
            connection: 16 << 20,
        }
    }
}

impl Windows {
    /// Reads `--window` and `--connection-window`. Given a stream window only, the connection gets four
    /// times that, as in the default.
    ///
    /// # Errors
    /// A value outside what RFC 9113 allows.
    pub fn from_arguments(arguments: &mut Arguments) -> Result<Self, Failure> {
        let default = Self::default();
        let stream = arguments.optional("window")?;
        let connection = arguments.optional("connection-window")?;
        let windows = Self {
            stream: stream.unwrap_or(default.stream),
            connection: connection.unwrap_or_else(|| match stream {
                None => default.connection,
                Some(bytes) => bytes.saturating_mul(4).min(LARGEST),
            }),
        };
        if windows.stream > LARGEST || windows.connection > LARGEST {
            return Err(format!("a window has at most {LARGEST} bytes").into());
        }
        Ok(windows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(line: &str) -> Result<Windows, Failure> {
        Windows::from_arguments(&mut Arguments::parse(line.split_whitespace().map(str::to_owned), &[])?)
    }

    #[test]
    fn connection_follows_stream() -> Result<(), Failure> {
        assert_eq!(windows("")?, Windows::default());
        assert_eq!(
            windows("--window 100")?,
            Windows {
                stream: 100,
                connection: 400
            }
        );
        assert_eq!(
            windows("--window 100 --connection-window 7")?,
            Windows {
                stream: 100,
                connection: 7
            }
        );
        assert_eq!(windows("--window 2147483647")?.connection, LARGEST);
        assert!(windows("--window 2147483648").is_err());
        Ok(())
    }
}
