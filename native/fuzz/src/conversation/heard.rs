//! What the stream's user has heard so far, by reading and by notices: one story, with one end.

use hackney_engine::error::EndReason;
use hackney_engine::{MAX_DATA, Message, Notice};

#[derive(Debug, PartialEq)]
pub(super) enum End {
    Done,
    Reason(EndReason),
}

#[derive(Debug, PartialEq, PartialOrd, Clone, Copy)]
enum Stage {
    Head,
    Body,
    Trailers,
    Done,
}

#[derive(Debug)]
pub(super) struct Heard {
    stage: Stage,
    pub(super) body: Vec<u8>,
    pub(super) end: Option<End>,
}

impl Heard {
    pub(super) fn nothing() -> Self {
        Heard {
            stage: Stage::Head,
            body: Vec::new(),
            end: None,
        }
    }

    pub(super) fn message(&mut self, message: Message) {
        assert_eq!(self.end, None, "nothing follows the end, yet {message:?} did");
        let (allowed, next) = match &message {
            Message::Informational(status, _) => (self.stage == Stage::Head && *status < 200, Stage::Head),
            Message::Response(status, _) => (self.stage == Stage::Head && *status >= 200, Stage::Body),
            Message::Data(data) => {
                assert!(
                    (1..=MAX_DATA).contains(&data.len()),
                    "{} bytes in one piece",
                    data.len()
                );
                self.body.extend_from_slice(data);
                (self.stage == Stage::Body, Stage::Body)
            }
            Message::Trailers(_) => (self.stage == Stage::Body, Stage::Trailers),
            Message::Done => (matches!(self.stage, Stage::Body | Stage::Trailers), Stage::Done),
        };
        assert!(allowed, "{message:?} after {:?}", self.stage);
        self.stage = next;
        if self.stage == Stage::Done {
            self.end = Some(End::Done);
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Message(message) => self.message(message),
            Notice::Passive => {}
            // Of streams that tell the end apart, and these do not.
            Notice::Last(_) => panic!("{notice:?}"),
            Notice::Closed => self.told_once(EndReason::Closed),
            Notice::Error(reason) => {
                assert_ne!(reason, EndReason::Closed);
                self.told_once(reason);
            }
        }
    }

    fn told_once(&mut self, reason: EndReason) {
        assert_eq!(self.end, None, "told of the end twice, now {reason:?}");
        self.read_end(reason);
    }

    /// A reader may ask as often as it likes, and gets the same answer.
    pub(super) fn read_end(&mut self, reason: EndReason) {
        assert!(!matches!(reason, EndReason::Panic(_)), "{reason:?}");
        match &self.end {
            None => self.end = Some(End::Reason(reason)),
            Some(End::Done) => assert_eq!(reason, EndReason::Closed),
            Some(End::Reason(before)) => assert_eq!(*before, reason),
        }
    }
}
