//! TLS, by rustls with *ring*: options, configurations built from them and shared, handshake, errors.

pub mod alert;
mod cache;
mod config;
pub mod error;
mod files;
mod fingerprint;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod handshake;
mod identity;
mod key_cost;
mod keylog;
pub mod options;
mod pem;
mod renewal;
mod roots;
pub mod server;
mod sessions;
mod verify;

pub use error::{TlsConfigError, TlsError};
pub use handshake::{Handshake, TlsFacts};
pub use options::{
    CertificateSource, Identity, KeySource, Roots, Secret, ServerNameOption, TlsOptions, TlsVersion, Verify,
};
pub use renewal::RenewalListener;
pub use server::ServerTlsOptions;
