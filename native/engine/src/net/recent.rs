//! What was found out a moment ago is not found out again: reading a file or looking up a name needs a thread that may block, and waking
//! that and being woken by it costs more than the rest of a resumed handshake.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For so long things are taken to be what they were: a certificate that is replaced is used a second later.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// Entries kept; beyond that the stale ones go, and all if there are none.
const MAX_ENTRIES: usize = 64;

/// See the module's text.
pub(super) struct Recent<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.0.lock();
        let (found, value) = entries.get(key)?;
        (found.elapsed() < FRESH).then(|| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut entries = self.0.lock();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (found, _)| found.elapsed() < FRESH);
        }
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, (Instant::now(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_forgets() {
        let recent = Recent::default();
        for number in 0..=MAX_ENTRIES {
            recent.put(number, "fresh");
        }
        assert_eq!(recent.get(&0), None);
        assert_eq!(recent.get(&MAX_ENTRIES), Some("fresh"));
        let stale = Instant::now().checked_sub(FRESH).expect("the machine runs for so long");
        recent.0.lock().insert(0, (stale, "stale"));
        assert_eq!(recent.get(&0), None);
    }
}
