//! libFuzzer's entry to [`hackney_fuzz::credentials`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hackney_fuzz::credentials::run(data));
