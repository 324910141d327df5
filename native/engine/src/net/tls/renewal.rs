//! A listener's configuration, made anew when the files that it was made of have changed: certificates are renewed every few weeks, and a
//! listener lives for years.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::error::TlsConfigError;
use super::files::Paths;
use super::fingerprint::{self, Fingerprint};
use super::server::{self, ServerTlsOptions};
use crate::net::recent::FRESH;

/// How long handshakes wait for a look at the files. There is a configuration without it, which a file system that hangs is not to keep
/// from clients.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks that may find files being written, one after the other. Some file systems always say so.
const MOST_UNSETTLED: u32 = 30;

/// Is told of each change of a listener's files: that they are used from now on, or why they cannot be, and what there was before is.
/// Called on a thread of the runtime's that may block.
pub type RenewalListener = Box<dyn Fn(Result<(), TlsConfigError>) + Send + Sync>;

/// See the module's text.
pub(super) struct Renewable {
    /// What it is made from, a key's password included; `None` when there are no files.
    from: Option<(ServerTlsOptions, Paths)>,
    current: Mutex<Current>,
    listener: OnceLock<RenewalListener>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// Of what was in the files at the last look. `None` when they could not be read.
    found: Option<Fingerprint>,
    looked_at: Instant,
    /// A look is under way, until the other end is dropped.
    looking: Option<watch::Receiver<()>>,
    /// Looks of late that found files being written.
    unsettled: u32,
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
        let paths = Paths::of_server(&options).absolute();
        let looked_at = Instant::now();
        let files = paths.read()?;
        let config = Arc::new(server::build(&options, &files)?);
        Ok(Self {
            from: (paths != Paths::default()).then_some((options, paths)),
            current: Mutex::new(Current {
                config,
                found: Some(fingerprint::of_files(&files)),
                looked_at,
                looking: None,
                unsettled: 0,
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
        if let Some((mut look, patience)) = self.look_under_way() {
            // The other end never sends anything.
            let _ = timeout_at(patience, look.changed()).await;
        }
        Arc::clone(&self.current.lock().config)
    }

    /// A look that is under way or is due, and until when to wait for it. There is one at a time, so that files that hang keep one thread.
    fn look_under_way(self: &Arc<Self>) -> Option<(watch::Receiver<()>, Instant)> {
        self.from.as_ref()?;
        let mut current = self.current.lock();
        if let Some(look) = &current.looking {
            return Some((look.clone(), current.looked_at + PATIENCE));
        }
        if current.looked_at.elapsed() < FRESH {
            return None;
        }
        let (end, look) = watch::channel(());
        current.looking = Some(look.clone());
        current.looked_at = Instant::now();
        let patience = current.looked_at + PATIENCE;
        drop(current);
        let looking = Looking {
            renewable: Arc::clone(self),
            _end: end,
        };
        spawn_blocking(move || looking.renewable.look());
        Some((look, patience))
    }

    /// Reads the files, and tells if there is something new in them. Blocks.
    fn look(&self) {
        let Some((options, paths)) = &self.from else { return };
        let read = paths.read();
        let found = read.as_ref().ok().map(fingerprint::of_files);
        if found.is_some() && found == self.current.lock().found || !self.may_use(paths) {
            return;
        }
        let made = read.and_then(|files| server::build(options, &files));
        let mut current = self.current.lock();
        current.found = found;
        let news = match made {
            Ok(config) => {
                current.config = Arc::new(config);
                current.failure = None;
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

    /// Nobody was writing to the files while they were read, or it always looks as if somebody were. Blocks.
    fn may_use(&self, paths: &Paths) -> bool {
        let settled = paths.are_settled(FRESH);
        let mut current = self.current.lock();
        current.unsettled = if settled { 0 } else { current.unsettled + 1 };
        settled || current.unsettled >= MOST_UNSETTLED
    }
}

/// A look. With it, waiting for it ends, also where it is never begun.
struct Looking {
    renewable: Arc<Renewable>,
    _end: watch::Sender<()>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.renewable.current.lock().looking = None;
    }
}
