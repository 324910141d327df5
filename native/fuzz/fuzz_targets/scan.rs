//! libFuzzer's entry to [`hackney_fuzz::scan`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hackney_fuzz::scan::run(data));
