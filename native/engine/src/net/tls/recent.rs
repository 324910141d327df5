//! Files that were read a moment ago are not read again: reading one needs a thread that may block, and waking that and being woken by
//! it costs more than the rest of a resumed handshake.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

/// For so long a file is taken to be what it was: a certificate that is replaced is used a second later.
const FRESH: Duration = Duration::from_secs(1);
/// Entries kept; beyond that the stale ones go, and all if there are none.
const MAX_ENTRIES: usize = 64;

/// See the module's text.
pub(super) struct Recent<K>(HashMap<K, (Instant, Arc<ClientConfig>)>);

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Recent(HashMap::new())
    }
}

impl<K: Eq + Hash> Recent<K> {
    pub(super) fn get(&self, key: &K) -> Option<Arc<ClientConfig>> {
        let (read, config) = self.0.get(key)?;
        (read.elapsed() < FRESH).then(|| Arc::clone(config))
    }

    pub(super) fn put(&mut self, key: K, config: Arc<ClientConfig>) {
        if self.0.len() >= MAX_ENTRIES {
            self.0.retain(|_, (read, _)| read.elapsed() < FRESH);
        }
        if self.0.len() >= MAX_ENTRIES {
            self.0.clear();
        }
        self.0.insert(key, (Instant::now(), config));
    }
}
