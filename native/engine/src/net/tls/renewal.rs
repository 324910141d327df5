//! A listener's configuration, made anew when the files that it was made of have changed: certificates are renewed every few weeks, and a
//! listener lives for years.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::TlsConfigError;
use super::files::Paths;
use super::fingerprint::{self, Fingerprint};
use super::server::{self, ServerTlsOptions};
use crate::net::recent::FRESH;

/// How long a handshake waits for the files. There is a configuration without them, which one that hangs is not to keep from clients.
const PATIENCE: Duration = Duration::from_millis(500);

/// Is told of each change of a listener's files: that the new ones are used from now on, or why they cannot be, and the former are.
/// Called on a thread of the runtime's that may block.
pub type RenewalListener = Box<dyn Fn(Result<(), TlsConfigError>) + Send + Sync>;

/// See the module's text.
pub(super) struct Renewable {
    /// What it is made from; `None` when that are no files.
    from: Option<(ServerTlsOptions, Paths)>,
    current: Mutex<Current>,
    listener: OnceLock<RenewalListener>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// Of what was in the files.
    fingerprint: Fingerprint,
    looked_at: Instant,
    looking: bool,
    /// What was told last, when that was a failure.
    failure: Option<TlsConfigError>,
}

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewable").finish_non_exhaustive()
    }
}

impl Renewable {
    /// Reads the files that `options` name, and builds the configuration. Blocks.
    pub(super) fn new(options: ServerTlsOptions) -> Result<Self, TlsConfigError> {
        let paths = Paths::of_server(&options);
        let looked_at = Instant::now();
        let files = paths.read()?;
        let config = Arc::new(server::build(&options, &files)?);
        Ok(Self {
            from: (paths != Paths::default()).then_some((options, paths)),
            current: Mutex::new(Current {
                config,
                fingerprint: fingerprint::of_files(&files),
                looked_at,
                looking: false,
                failure: None,
            }),
            listener: OnceLock::new(),
        })
    }

    /// Who is told of changes; the first one counts.
    pub(super) fn tell(&self, listener: RenewalListener) {
        let _ = self.listener.set(listener);
    }

    /// What to begin a handshake with. Files are read again once what was read of them is a second old.
    pub(super) async fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        if self.is_due() {
            let looking = Looking(Arc::clone(self));
            let _ = timeout(PATIENCE, spawn_blocking(move || looking.0.look())).await;
        }
        Arc::clone(&self.current.lock().config)
    }

    /// True for one who asks at a time, who then has to look. However long that takes, it keeps one thread only.
    fn is_due(&self) -> bool {
        let mut current = self.current.lock();
        let due = self.from.is_some() && !current.looking && current.looked_at.elapsed() >= FRESH;
        if due {
            current.looking = true;
            current.looked_at = Instant::now();
        }
        due
    }

    /// Reads the files, and tells if there is something new in them. Blocks.
    fn look(&self) {
        let Some((options, paths)) = &self.from else { return };
        let known = self.current.lock().fingerprint;
        let made = paths.read().and_then(|files| {
            let fingerprint = fingerprint::of_files(&files);
            if fingerprint == known {
                return Ok(None);
            }
            Ok(Some((Arc::new(server::build(options, &files)?), fingerprint)))
        });
        let mut current = self.current.lock();
        let news = match made {
            Ok(made) => {
                current.failure = None;
                let Some((config, fingerprint)) = made else { return };
                current.config = config;
                current.fingerprint = fingerprint;
                Ok(())
            }
            Err(failure) if current.failure.as_ref() == Some(&failure) => return,
            Err(failure) => {
                current.failure = Some(failure.clone());
                Err(failure)
            }
        };
        drop(current);
        if let Some(listener) = self.listener.get() {
            listener(news);
        }
    }
}

/// While it is there, nobody else looks.
struct Looking(Arc<Renewable>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.current.lock().looking = false;
    }
}
