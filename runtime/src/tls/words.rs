//! The errors of TLS in Go's words, which operators know from etcd's log.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// The error of a handshake in Go's words, or in rustls' words if Go has none.
pub(super) fn of(error: &Error) -> String {
    let text = match error {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate",
        Error::AlertReceived(alert) => return alert_text(*alert),
        Error::InvalidCertificate(error) => return certificate_text(error),
        Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake",
        Error::NoApplicationProtocol => "tls: client requested unsupported application protocols",
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "tls: no cipher suite supported by both client and server"
        }
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            "tls: peer doesn't support any of the certificate's signature algorithms"
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "tls: client offered only unsupported versions",
        other => return format!("tls: {other}"),
    };
    text.to_owned()
}

fn certificate_text(error: &CertificateError) -> String {
    let why = match error {
        CertificateError::ApplicationVerificationFailure => {
            return "client certificate authentication failed".to_owned();
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate has expired or is not yet valid",
        CertificateError::UnknownIssuer => "certificate signed by unknown authority",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate specifies an incompatible key usage"
        }
        other => return format!("tls: failed to verify certificate: x509: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

fn alert_text(alert: AlertDescription) -> String {
    let why = match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        other => return format!("remote error: tls: alert({})", u8::from(other)),
    };
    format!("remote error: tls: {why}")
}
