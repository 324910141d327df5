//! TLS configurations, built once and shared by all connections with the same options.
//!
//! Sharing is what makes session resumption work (the sessions live beside the configuration) and keeps opening a
//! connection cheap: parsing the system's roots takes milliseconds.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::{JoinError, spawn_blocking};

use super::config;
use super::error::TlsConfigError;
use super::files::{Files, Paths};
use super::fingerprint::{self, Fingerprint};
use super::options::TlsOptions;
use super::sessions::Configured;
use crate::net::recent::Recent;

/// How many configurations are kept. The one unused for longest goes first; connections that use it keep it alive.
const MAX_CONFIGS: usize = 64;

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// Configurations by what their options say, file names included, for as long as their files are taken to be unchanged.
static RECENT: LazyLock<Recent<(Fingerprint, Paths), Arc<Configured>>> = LazyLock::new(Recent::default);

/// Filled once; everyone who wants it meanwhile waits for the same building.
type Slot = Arc<OnceCell<Arc<Configured>>>;

#[derive(Default)]
struct Cache {
    entries: HashMap<Fingerprint, Entry>,
    /// Counts look-ups; an entry's age is the count at its last use.
    clock: u64,
}

struct Entry {
    slot: Slot,
    used: u64,
}

impl Cache {
    fn slot(&mut self, fingerprint: Fingerprint) -> Slot {
        self.clock += 1;
        let full = self.entries.len() >= MAX_CONFIGS && !self.entries.contains_key(&fingerprint);
        if full && let Some((&oldest, _)) = self.entries.iter().min_by_key(|(_, entry)| entry.used) {
            self.entries.remove(&oldest);
        }
        let entry = self.entries.entry(fingerprint).or_insert_with(|| Entry {
            slot: Slot::default(),
            used: 0,
        });
        entry.used = self.clock;
        Arc::clone(&entry.slot)
    }
}

/// The configuration for these options.
///
/// Files are read again once what was read of them is a second old, away from the runtime's workers; a configuration is built
/// only for content not seen before. When the caller is cancelled while one is built, the building goes on for the next caller.
pub(super) async fn client_config(options: &TlsOptions) -> Result<Arc<Configured>, TlsConfigError> {
    let Some(paths) = Paths::of(options) else {
        return built(options, Files::default()).await;
    };
    let named = (fingerprint::of(options, &Files::default()), paths);
    if let Some(config) = RECENT.get(&named) {
        return Ok(config);
    }
    let paths = named.1.clone();
    let files = spawn_blocking(move || paths.read()).await.map_err(interrupted)??;
    let config = built(options, files).await?;
    RECENT.put(named, Arc::clone(&config));
    Ok(config)
}

/// The configuration for options and what their files hold, from the cache or made now.
async fn built(options: &TlsOptions, files: Files) -> Result<Arc<Configured>, TlsConfigError> {
    let slot = CACHE.lock().slot(fingerprint::of(options, &files));
    if let Some(config) = slot.get() {
        return Ok(Arc::clone(config));
    }
    let options = options.clone();
    tokio::spawn(async move {
        let build = || async {
            spawn_blocking(move || config::build(&options, &files).map(Arc::new))
                .await
                .map_err(interrupted)?
        };
        slot.get_or_try_init(build).await.cloned()
    })
    .await
    .map_err(interrupted)?
}

/// The runtime is shutting down, or building panicked.
pub(super) fn interrupted(error: JoinError) -> TlsConfigError {
    TlsConfigError::new("ssl_options", format!("not built: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::options::{ServerNameOption, TlsVersion, Verify};

    fn insecure() -> TlsOptions {
        TlsOptions {
            verify: Verify::None,
            ..TlsOptions::default()
        }
    }

    async fn config(options: &TlsOptions) -> Arc<Configured> {
        client_config(options).await.expect("a configuration")
    }

    #[tokio::test]
    async fn equal_options_share_and_different_ones_do_not() {
        let mut options = insecure();
        options.alpn = vec![b"sharing".to_vec()];
        let first = config(&options).await;
        assert!(Arc::ptr_eq(&first, &config(&options.clone()).await));
        // The name belongs to the connection, not to the configuration.
        options.server_name = ServerNameOption::Named("b.example".into());
        assert!(Arc::ptr_eq(&first, &config(&options).await));
        let different = [
            TlsOptions {
                versions: vec![TlsVersion::Tls12],
                ..options.clone()
            },
            TlsOptions {
                server_name: ServerNameOption::Disable,
                ..options.clone()
            },
            TlsOptions {
                resumption: false,
                ..options.clone()
            },
            TlsOptions {
                alpn: vec![b"sha".to_vec(), b"ring".to_vec()],
                ..options.clone()
            },
        ];
        for other in different {
            assert!(!Arc::ptr_eq(&first, &config(&other).await), "shared: {other:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_at_once_build_one() {
        let mut options = insecure();
        options.alpn = vec![b"at once".to_vec()];
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let options = options.clone();
                tokio::spawn(async move { config(&options).await })
            })
            .collect();
        let first = config(&options).await;
        for task in tasks {
            assert!(Arc::ptr_eq(&first, &task.await.expect("no panic")));
        }
    }

    #[test]
    fn the_cache_is_bounded_and_drops_what_is_unused_longest() {
        let mut cache = Cache::default();
        let kept = cache.slot([0; 32]);
        for number in 1..=MAX_CONFIGS {
            let mut fingerprint = [1; 32];
            fingerprint[0] = u8::try_from(number).expect("small");
            cache.slot(fingerprint);
            cache.slot([0; 32]);
        }
        assert_eq!(cache.entries.len(), MAX_CONFIGS);
        assert!(Arc::ptr_eq(&kept, &cache.slot([0; 32])));
        let mut oldest = [1; 32];
        oldest[0] = 1;
        assert!(!cache.entries.contains_key(&oldest));
    }
}
