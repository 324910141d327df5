//! Certificates, keys and passwords, PEM or DER: whatever the bytes, a TLS configuration is built or the option at fault is named.

use hackney_engine::net::tls::fuzzing::{Contents, build};
use hackney_engine::net::{CertificateSource, Identity, KeySource, Roots, Secret, TlsOptions, Verify};

/// The only options that can be at fault.
const OPTIONS: [&str; 8] = [
    "alpn_advertised_protocols",
    "cacerts",
    "cacertfile",
    "cert",
    "certfile",
    "key",
    "keyfile",
    "password",
];

/// Runs one input: a byte that says how the contents are given, then certificate, key, roots and an ALPN name, between lines with
/// nothing but a dot.
pub fn run(data: &[u8]) {
    let Some((how, contents)) = data.split_first() else {
        return;
    };
    let bit = |n: u8| how >> n & 1 == 1;
    let mut parts = sections(contents).map(<[u8]>::to_vec);
    let mut next = || parts.next().unwrap_or_default();
    let (certificate, key, roots, protocol) = (next(), next(), next(), next());
    let nowhere = || "given in memory".into();
    let options = TlsOptions {
        verify: if bit(0) { Verify::Peer } else { Verify::None },
        roots: if bit(1) {
            Roots::PemFile(nowhere())
        } else {
            Roots::Der(vec![roots.clone()])
        },
        identity: Some(Identity {
            certificate: match (bit(2), bit(3)) {
                (true, _) => CertificateSource::File(nowhere()),
                (_, true) => CertificateSource::Pem(certificate.clone()),
                (_, false) => CertificateSource::Der(vec![certificate.clone()]),
            },
            key: match (bit(4), bit(5)) {
                (true, _) => KeySource::File(nowhere()),
                (_, true) => KeySource::Pem(Secret(key.clone())),
                (_, false) => KeySource::Der(Secret(key.clone())),
            },
            password: bit(6).then(|| Secret(b"x".to_vec())),
        }),
        alpn: vec![protocol],
        ..TlsOptions::default()
    };
    let contents = Contents {
        roots,
        certificate,
        key,
    };
    if let Err(error) = build(&options, contents) {
        assert!(OPTIONS.contains(&error.option), "{error:?}");
    }
}

fn sections(contents: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BETWEEN: &[u8] = b"\n.\n";
    let mut rest = Some(contents);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(BETWEEN.len()).position(|window| window == BETWEEN);
        rest = end.map(|end| &bytes[end + BETWEEN.len()..]);
        Some(end.map_or(bytes, |end| &bytes[..end]))
    })
}
