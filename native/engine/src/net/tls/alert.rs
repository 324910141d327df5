//! TLS errors as Erlang's `ssl` names them, and as sentences.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::error::{LocalFailure, PeerAlert, Side};

/// The name that Erlang's `ssl` gives an alert. Alerts that it does not know are `"unknown_alert"`.
#[must_use]
pub fn name(description: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match description {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::DecryptionFailed => "decryption_failed_reserved",
        A::RecordOverflow => "record_overflow",
        A::DecompressionFailure => "decompression_failure",
        A::HandshakeFailure => "handshake_failure",
        A::NoCertificate => "no_certificate_reserved",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ExportRestriction => "export_restriction",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::NoRenegotiation => "no_renegotiation",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::CertificateUnobtainable => "certificate_unobtainable",
        A::UnrecognisedName => "unrecognized_name",
        A::BadCertificateStatusResponse => "bad_certificate_status_response",
        A::BadCertificateHashValue => "bad_certificate_hash_value",
        A::UnknownPSKIdentity => "unknown_psk_identity",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        _ => "unknown_alert",
    }
}

/// The alert for a failure found on our side.
pub(super) fn of_error(error: &Error, side: Side) -> &'static str {
    use AlertDescription as A;
    match error {
        Error::InvalidCertificate(reason) => of_certificate(reason),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => name(A::UnexpectedMessage),
        // The first byte of the answer is no TLS content type: something else listens there.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => name(A::UnexpectedMessage),
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => name(A::ProtocolVersion),
        Error::InvalidMessage(invalid) => name((*invalid).into()),
        // A server must send a certificate, an empty message is malformed; a client may have none.
        Error::NoCertificatesPresented => name(match side {
            Side::Client => A::DecodeError,
            Side::Server => A::CertificateRequired,
        }),
        Error::DecryptError => name(A::BadRecordMac),
        Error::PeerSentOversizedRecord => name(A::RecordOverflow),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => name(A::ProtocolVersion),
        Error::PeerIncompatible(_) => name(A::HandshakeFailure),
        Error::PeerMisbehaved(_) => name(A::IllegalParameter),
        Error::NoApplicationProtocol => name(A::NoApplicationProtocol),
        Error::AlertReceived(description) => name(*description),
        _ => name(A::InternalError),
    }
}

fn of_certificate(reason: &CertificateError) -> &'static str {
    use CertificateError as C;
    match reason {
        C::NotValidForName | C::NotValidForNameContext { .. } => "hostname_check_failed",
        // Erlang's `ssl` calls a signature in the chain that does not verify a bad certificate.
        C::BadSignature => name(AlertDescription::BadCertificate),
        C::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            // A self-signed certificate made by `openssl req -x509` says that it is a CA. Nobody we trust vouches for it.
            Some(webpki::Error::CaUsedAsEndEntity) => name(AlertDescription::UnknownCA),
            Some(webpki::Error::UnsupportedCertVersion) => name(AlertDescription::UnsupportedCertificate),
            _ => name(AlertDescription::CertificateUnknown),
        },
        other => name(AlertDescription::from(other.clone())),
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

impl PeerAlert {
    pub(super) fn text(self) -> String {
        use AlertDescription as A;
        let reason = match self.description {
            A::CertificateRequired => "it wants a client certificate and got none",
            A::BadCertificate => "it could not use our certificate, or got none",
            A::UnsupportedCertificate => "it does not support our kind of certificate",
            A::CertificateExpired => "our certificate has expired, or is not valid yet",
            A::CertificateRevoked => "our certificate has been revoked",
            A::CertificateUnknown => "it found fault with our certificate",
            A::UnknownCA => "it does not trust the issuer of our certificate",
            A::AccessDenied => "our certificate is valid, but grants no access",
            A::HandshakeFailure => {
                "nothing that both sides support is left, or it wants a client certificate and got none"
            }
            A::ProtocolVersion => "it does not support the TLS versions we offered",
            A::InsufficientSecurity => "it wants stronger cipher suites than we offered",
            A::UnrecognisedName => "it does not know the host name we asked for (SNI)",
            A::NoApplicationProtocol => "it supports none of the protocols we offered (ALPN)",
            A::DecryptError => "a signature or check sum of ours did not verify",
            A::CloseNotify => "it ended the connection",
            A::InternalError => "something failed on its side",
            _ => "it gave no further reason",
        };
        let side = self.side.name();
        format!(
            "TLS {side}: the peer sent the alert {}: {reason}",
            name(self.description)
        )
    }
}

impl LocalFailure {
    pub(super) fn text(&self) -> String {
        let reason = match &self.error {
            Error::InvalidCertificate(reason) => certificate_text(reason),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => match self.side {
                Side::Client => "the peer's answer is not TLS".to_owned(),
                Side::Server => "what the peer sent is not TLS".to_owned(),
            },
            Error::NoCertificatesPresented if self.side == Side::Server => {
                "the peer has no certificate, and one is required".to_owned()
            }
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => "the peer offers no TLS version that we support, or that the option versions lets us".to_owned(),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
                "the peer supports neither TLS 1.2 nor TLS 1.3".to_owned()
            }
            Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
                "the peer chose a TLS version that the option versions rules out".to_owned()
            }
            other => other.to_string(),
        };
        format!("TLS {}: {reason}", self.side.name())
    }
}

fn certificate_text(reason: &CertificateError) -> String {
    use CertificateError as C;
    match reason {
        C::NotValidForNameContext { expected, presented } => format!(
            "the peer's certificate is not valid for host '{}' ({})",
            expected.to_str(),
            presented_names(presented)
        ),
        C::UnknownIssuer => "the peer's certificate is not signed by a trusted authority".to_owned(),
        C::ExpiredContext { not_after, .. } => {
            format!("the peer's certificate expired at {}", utc(not_after.as_secs()))
        }
        C::NotValidYetContext { not_before, .. } => format!(
            "the peer's certificate is not valid before {}",
            utc(not_before.as_secs())
        ),
        C::Revoked => "the peer's certificate has been revoked".to_owned(),
        C::BadEncoding => "the peer's certificate cannot be decoded".to_owned(),
        C::BadSignature => "a signature of the peer does not verify".to_owned(),
        C::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "the peer's own certificate is that of an authority (CA), and it is not among the trusted ones"
                    .to_owned()
            }
            Some(webpki::Error::UnsupportedCertVersion) => {
                "the peer's certificate is not of X.509 version 3".to_owned()
            }
            _ => format!("the peer's certificate cannot be used: {reason}"),
        },
        other => format!("the peer's certificate cannot be used: {other}"),
    }
}

/// The names come as `DnsName("a.example")` or `IpAddress(127.0.0.1)`; only what is inside says anything to a reader.
fn presented_names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "it names no host in subjectAltName".to_owned();
    }
    let names: Vec<&str> = presented
        .iter()
        .map(|name| {
            let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
            inside.unwrap_or(name).trim_matches('"')
        })
        .collect();
    format!("it names: {}", names.join(", "))
}

/// A Unix time in UTC, by the days-to-civil-date arithmetic of the proleptic Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599), "2024-12-31 23:59:59 UTC");
    }

    #[test]
    fn presented_names_are_bare() {
        let names = [r#"DnsName("a.example")"#.to_owned(), "IpAddress(127.0.0.1)".to_owned()];
        assert_eq!(presented_names(&names), "it names: a.example, 127.0.0.1");
    }

    #[test]
    fn what_is_not_tls_is_an_unexpected_message() {
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(of_error(&error, Side::Client), "unexpected_message");
    }
}
