//! A stream's receive window: what was received and when it is given back (RFC 9113, 6.9). No I/O, no locks.

/// The window is given back in steps of this fraction, not per message: each step costs a lock and a wake-up.
const STEPS: usize = 4;

/// When received bytes are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowControl {
    /// As the reader takes them or the owner is posted them.
    Auto,
    /// When the user says so.
    Manual,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Credit {
    flow_control: FlowControl,
    step: usize,
    /// Received and not given back.
    outstanding: usize,
    /// Of these, taken by the reader (`Auto`): to be given back with the next step.
    taken: usize,
}

impl Credit {
    pub(crate) fn new(flow_control: FlowControl, window: u32) -> Self {
        Credit {
            flow_control,
            step: (window as usize / STEPS).max(1),
            outstanding: 0,
            taken: 0,
        }
    }

    pub(crate) fn received(&mut self, n: usize) {
        self.outstanding += n;
    }

    /// The reader took `n` bytes. Returns what to give back now.
    pub(crate) fn taken(&mut self, n: usize) -> Option<usize> {
        if self.flow_control == FlowControl::Manual {
            return None;
        }
        self.taken += n;
        if self.taken < self.step {
            return None;
        }
        let due = std::mem::take(&mut self.taken);
        self.outstanding -= due;
        Some(due)
    }

    /// Received and not given back.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// From now on it is like this. Returns what to give back now: of bytes that are not among the `unread` ones nobody would ever say it,
    /// if they came under another rule.
    pub(crate) fn set(&mut self, flow_control: FlowControl, unread: usize) -> usize {
        let due = match flow_control {
            FlowControl::Auto => self.outstanding.saturating_sub(unread),
            FlowControl::Manual => self.taken,
        };
        self.flow_control = flow_control;
        self.taken = 0;
        self.outstanding -= due;
        due
    }

    /// The user gives `n` bytes back. Returns what to give back now, or what is outstanding when `n` is more than that.
    pub(crate) fn consume(&mut self, n: usize) -> Result<usize, usize> {
        match self.flow_control {
            // Given back already, or about to be: saying it again changes nothing.
            FlowControl::Auto => Ok(0),
            FlowControl::Manual if n > self.outstanding => Err(self.outstanding),
            FlowControl::Manual => {
                self.outstanding -= n;
                Ok(n)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_gives_back_in_steps() {
        let mut credit = Credit::new(FlowControl::Auto, 100);
        credit.received(60);
        assert_eq!(credit.taken(24), None);
        assert_eq!(credit.taken(1), Some(25));
        assert_eq!(credit.taken(35), Some(35));
        assert_eq!(credit.consume(7), Ok(0));
    }

    #[test]
    fn manual_gives_back_what_it_is_told_and_no_more_than_came() {
        let mut credit = Credit::new(FlowControl::Manual, 100);
        credit.received(60);
        assert_eq!(credit.taken(60), None);
        assert_eq!(credit.consume(50), Ok(50));
        assert_eq!(credit.consume(11), Err(10));
        assert_eq!(credit.consume(10), Ok(10));
    }
}
