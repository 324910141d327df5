//! libFuzzer's entry to [`hackney_fuzz::conversation`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hackney_fuzz::conversation::run(data));
