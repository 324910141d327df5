//! Every scenario of the client against the server, in small, with TLS and in clear text. The scenarios check
//! what they measure (bytes that came back, bytes that arrived), so this tests both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hackney_peer::arguments::Arguments;
use hackney_peer::certificate::Identity;
use hackney_peer::client::{Dialer, Scenario};
use hackney_peer::server::{H2, Hyper, Listener, Stack};
use hackney_peer::windows::Windows;
use hackney_peer::{Failure, body};
use http::HeaderMap;
use tokio::time::timeout;

const SMALL: [&str; 9] = [
    "pingpong --seconds 0.02 --size 64",
    "many --streams 5 --rounds 20",
    "oneway --seconds 0.02",
    "download_passive --bytes 3000001",
    "download_active --bytes 1",
    "download_manual --bytes 0",
    "upload_16k --bytes 3000001",
    "upload_10m --bytes 20000001",
    "open --seconds 0.02",
];

/// Gone at the end of a test, also when it fails.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn run_all(identity: Option<Identity>, windows: Windows) -> Result<(), Failure> {
    let cacert = identity.as_ref().map(|identity| identity.authority_file.clone());
    let scheme = if identity.is_some() { "https" } else { "http" };
    let listener = Listener::bind(0, identity).await?;
    let url = format!("{scheme}://localhost:{}", listener.port()?);
    tokio::spawn(listener.serve(H2 { windows }));
    for line in SMALL {
        let mut arguments = Arguments::parse(line.split_whitespace().map(str::to_owned), &[])?;
        let scenario = Scenario::from_arguments(&mut arguments)?;
        arguments.finish()?;
        let dialer = Arc::new(Dialer::new(&url, cacert.as_deref(), windows)?);
        let figure = timeout(Duration::from_secs(30), scenario.run(dialer))
            .await
            .map_err(|_| format!("{line}: no end"))?
            .map_err(|failure| format!("{line}: {failure}"))?;
        assert!(line.starts_with(&figure.name), "{line} gave {figure:?}");
        assert!(
            figure.value >= 0.0 && figure.value.is_finite(),
            "{line} gave {figure:?}"
        );
    }
    Ok(())
}

fn folder(name: &str) -> Folder {
    Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id())))
}

#[tokio::test]
async fn with_tls() -> Result<(), Failure> {
    let folder = folder("with_tls");
    run_all(Some(Identity::fresh(&folder.0)?), Windows::default()).await
}

#[tokio::test]
async fn in_clear_text() -> Result<(), Failure> {
    run_all(None, Windows::default()).await
}

/// Smaller than one message of some scenarios: everything has to wait for window again and again.
#[tokio::test]
async fn through_tiny_windows() -> Result<(), Failure> {
    run_all(
        None,
        Windows {
            stream: 20_000,
            connection: 70_000,
        },
    )
    .await
}

#[tokio::test]
async fn a_stranger_is_not_trusted() -> Result<(), Failure> {
    let (ours, theirs) = (folder("ours"), folder("theirs"));
    let stranger = Identity::fresh(&theirs.0)?.authority_file;
    let listener = Listener::bind(0, Some(Identity::fresh(&ours.0)?)).await?;
    let url = format!("https://localhost:{}", listener.port()?);
    tokio::spawn(listener.serve(H2 {
        windows: Windows::default(),
    }));
    let dialer = Dialer::new(&url, Some(&stranger), Windows::default())?;
    assert!(dialer.open("/hello").await.is_err());
    Ok(())
}

/// What a server answers: status, fields and body.
type Answer = (u16, HeaderMap, Bytes);

async fn ask(stack: impl Stack, identity: Option<Identity>, path: &str) -> Result<Answer, Failure> {
    let cacert = identity.as_ref().map(|identity| identity.authority_file.clone());
    let scheme = if identity.is_some() { "https" } else { "http" };
    let listener = Listener::bind(0, identity).await?;
    let url = format!("{scheme}://localhost:{}", listener.port()?);
    tokio::spawn(listener.serve(stack));
    let dialer = Dialer::new(&url, cacert.as_deref(), Windows::default())?;
    let conversation = async {
        let (response, mut request) = dialer.open(path).await?;
        request.send_data(Bytes::new(), true)?;
        let (head, mut incoming) = response.await?.into_parts();
        let mut text = BytesMut::new();
        while let Some(data) = body::receive(&mut incoming).await? {
            text.extend_from_slice(&data);
        }
        Ok((head.status.as_u16(), head.headers, text.freeze()))
    };
    timeout(Duration::from_secs(30), conversation)
        .await
        .map_err(|_| format!("{path}: no answer"))?
}

/// The bench compares the two: they have to do the same.
#[tokio::test]
async fn hyper_answers_as_h2_does() -> Result<(), Failure> {
    let h2 = H2 {
        windows: Windows::default(),
    };
    for path in ["/hello", "/elsewhere"] {
        for secured in [false, true] {
            let folder = folder("hyper");
            let identity = || secured.then(|| Identity::fresh(&folder.0)).transpose();
            let expected = ask(h2, identity()?, path).await?;
            assert_eq!(
                ask(Hyper, identity()?, path).await?,
                expected,
                "{path}, secured: {secured}"
            );
        }
    }
    Ok(())
}
