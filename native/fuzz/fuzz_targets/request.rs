//! libFuzzer's entry to [`hackney_fuzz::request`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hackney_fuzz::request::run(data));
