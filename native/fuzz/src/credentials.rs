//! Certificates, keys and passwords, PEM or DER: whatever the bytes, a TLS configuration is built or the option at fault is named.

use arbitrary::{Arbitrary, Unstructured};
use hackney_engine::net::tls::fuzzing::{Contents, build};
use hackney_engine::net::{CertificateSource, Identity, KeySource, Roots, Secret, TlsOptions, Verify};

#[derive(Debug, Arbitrary)]
enum Place {
    Der,
    Pem,
    File,
}

/// The contents stand last, for libFuzzer to work on.
#[derive(Debug, Arbitrary)]
struct Case<'a> {
    certificate_in: Place,
    key_in: Place,
    verify: bool,
    roots_in_file: bool,
    password: Option<&'a [u8]>,
    alpn: Vec<u8>,
    /// Certificate, key and roots, between lines with nothing but a dot.
    contents: &'a [u8],
}

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

/// Runs one input.
pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut parts = sections(case.contents).map(<[u8]>::to_vec);
    let mut next = || parts.next().unwrap_or_default();
    let (certificate, key, roots) = (next(), next(), next());
    let nowhere = || "given in memory".into();
    let options = TlsOptions {
        verify: if case.verify { Verify::Peer } else { Verify::None },
        roots: if case.roots_in_file {
            Roots::PemFile(nowhere())
        } else {
            Roots::Der(vec![roots.clone()])
        },
        identity: Some(Identity {
            certificate: match case.certificate_in {
                Place::Der => CertificateSource::Der(vec![certificate.clone()]),
                Place::Pem => CertificateSource::Pem(certificate.clone()),
                Place::File => CertificateSource::File(nowhere()),
            },
            key: match case.key_in {
                Place::Der => KeySource::Der(Secret(key.clone())),
                Place::Pem => KeySource::Pem(Secret(key.clone())),
                Place::File => KeySource::File(nowhere()),
            },
            password: case.password.map(|password| Secret(password.to_vec())),
        }),
        alpn: vec![case.alpn],
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
