//! Fuzz targets for `hackney_engine`. Each module's `run` takes one input and panics on a finding.
//!
//! `fuzz_targets/` gives them to libFuzzer, `tests/corpus.rs` replays `corpus/` through them without it.

pub mod conversation;
pub mod credentials;
mod frames;
pub mod request;
pub mod scan;
