//! The operating system's roots, in a process of their own: they are loaded once per process.

use std::path::Path;
use std::process::Command;

use hackney_engine::net::TlsOptions;

use crate::certificates::Authority;
use crate::server::Server;
use crate::{alert, dial, to};

#[test]
fn the_environment_names_the_system_roots() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "system_roots::child", "--nocapture"])
        .env("SSL_CERT_FILE", folder.path().join("roots.pem"))
        .env_remove("SSL_CERT_DIR")
        .env("HACKNEY_ENGINE_TEST_CHILD", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output}");
    assert!(output.contains("the child has seen everything"), "{output}");
}

/// Does its work only when the test above runs it.
#[tokio::test]
async fn child() {
    if std::env::var_os("HACKNEY_ENGINE_TEST_CHILD").is_none() {
        return;
    }
    let path = std::env::var_os("SSL_CERT_FILE").unwrap();
    let path = Path::new(&path);
    let (trusted, other) = (Authority::new("system"), Authority::new("other"));
    let good = Server::start(&trusted.issue(&["localhost"])).await;
    let bad = Server::start(&other.issue(&["localhost"])).await;
    let reach = |server: &Server| to("localhost", server.address, TlsOptions::default());

    // Without any roots, that is said, and tried again next time.
    match dial(&reach(&good)).await {
        Err(hackney_engine::net::ConnectError::Config(error)) => {
            assert_eq!(error.option, "cacerts");
            assert!(error.text.contains("ca-certificates"), "{error}");
        }
        outcome => panic!("connected: {outcome:?}"),
    }
    std::fs::write(path, trusted.certificate.pem()).unwrap();
    dial(&reach(&good)).await.unwrap();
    assert_eq!(alert(&reach(&bad)).await.0, "unknown_ca");

    // Loaded once: what the file holds now no longer matters, not even to options not seen before.
    std::fs::write(path, other.certificate.pem()).unwrap();
    let fresh = TlsOptions {
        resumption: false,
        ..TlsOptions::default()
    };
    dial(&to("localhost", good.address, fresh.clone())).await.unwrap();
    assert_eq!(alert(&to("localhost", bad.address, fresh)).await.0, "unknown_ca");
    println!("the child has seen everything");
}
