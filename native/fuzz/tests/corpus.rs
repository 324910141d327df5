//! Replays the corpus: inputs that between them take every way through the targets, and those that once were findings.

#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(corpus).expect("a directory of inputs") {
        let path = entry.expect("an input").path();
        let input = fs::read(&path).expect("a readable input");
        // Shown with the panic, if there is one.
        println!("{}", path.display());
        run(&input);
        replayed += 1;
    }
    assert!(replayed > 0, "no inputs");
}

#[test]
fn scan() {
    replay("scan", hackney_fuzz::scan::run);
}

#[test]
fn credentials() {
    replay("credentials", hackney_fuzz::credentials::run);
}

#[test]
fn request() {
    replay("request", hackney_fuzz::request::run);
}

#[test]
fn conversation() {
    replay("conversation", hackney_fuzz::conversation::run);
}
