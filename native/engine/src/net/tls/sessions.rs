//! A session belongs to the server that gave it. rustls keeps sessions by the server's name; two servers on one host have the same, and
//! each would be offered the other's, which at best costs the handshake's shortcut. So there is a store for each port.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::client::Resumption;

/// How many peers' sessions are remembered for a port.
const MAX_SESSIONS: usize = 256;
/// Ports that sessions are kept for. Beyond that all are forgotten, which costs each server one full handshake.
const MAX_PORTS: usize = 64;

/// A configuration, and the sessions of those who were talked to with it.
#[derive(Debug)]
pub(super) struct Configured {
    /// Resumes nothing.
    config: Arc<ClientConfig>,
    /// `None`: no session is to be resumed.
    ports: Option<Mutex<HashMap<u16, Arc<ClientConfig>>>>,
}

impl Configured {
    pub(super) fn new(mut config: ClientConfig, resumption: bool) -> Self {
        config.resumption = Resumption::disabled();
        Self {
            config: Arc::new(config),
            ports: resumption.then(Mutex::default),
        }
    }

    /// The configuration for servers on a port.
    pub(super) fn for_port(&self, port: u16) -> Arc<ClientConfig> {
        let Some(ports) = &self.ports else {
            return Arc::clone(&self.config);
        };
        let mut ports = ports.lock();
        if ports.len() >= MAX_PORTS && !ports.contains_key(&port) {
            ports.clear();
        }
        let of_port = ports.entry(port).or_insert_with(|| {
            let mut config = ClientConfig::clone(&self.config);
            config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
            Arc::new(config)
        });
        Arc::clone(of_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::config;

    fn configured(resumption: bool) -> Configured {
        let roots = rustls::RootCertStore::empty();
        let config = ClientConfig::builder_with_provider(Arc::clone(&config::PROVIDER))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Configured::new(config, resumption)
    }

    #[test]
    fn a_store_for_each_port() {
        let configured = configured(true);
        let first = configured.for_port(1);
        assert!(Arc::ptr_eq(&first, &configured.for_port(1)));
        assert!(!Arc::ptr_eq(&first, &configured.for_port(2)));
    }

    #[test]
    fn no_store_where_none_is_wanted() {
        let configured = configured(false);
        assert!(Arc::ptr_eq(&configured.for_port(1), &configured.for_port(2)));
    }

    #[test]
    fn the_stores_are_bounded() {
        let configured = configured(true);
        for port in 0..1000 {
            configured.for_port(port);
            let kept = configured.ports.as_ref().map(|ports| ports.lock().len());
            assert!(kept.is_some_and(|kept| (1..=MAX_PORTS).contains(&kept)));
        }
    }
}
