//! The keys of signed tokens: files in PEM and DER, and signatures. The cryptography is the crate `ring`'s.

use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quoin_core::config::{JwtOptions, SignMethod};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// Object identifiers in DER: of the kind of a key, and of its curve.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Tags of DER.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const FIRST_OPTIONAL: u8 = 0xa0;
const SECOND_OPTIONAL: u8 = 0xa1;

/// The keys of a method.
pub(super) enum Key {
    /// A secret that makes and checks signatures.
    Shared(hmac::Key),
    /// A pair; without its private half it only checks signatures.
    Pair {
        public: UnparsedPublicKey<Vec<u8>>,
        private: Option<Private>,
    },
}

/// The private half of a pair.
pub(super) enum Private {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

/// The kinds of pairs.
#[derive(Clone, Copy)]
enum Kind {
    Ec(&'static EcdsaSigningAlgorithm, &'static [u8]),
    Ed,
    Rsa(&'static dyn RsaEncoding),
}

/// Shows no key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared(_) => "Shared",
            Self::Pair { .. } => "Pair",
        })
    }
}

impl Key {
    /// Reads the files.
    ///
    /// # Errors
    /// Why a key cannot be used.
    pub(super) fn load(options: &JwtOptions) -> Result<Self, String> {
        let public = options.public_key.as_deref().map(read).transpose()?;
        let private = options.private_key.as_deref().map(read).transpose()?;
        let missing = || "missing key data".to_owned();
        let (kind, algorithm) = match pair_of(options.method) {
            Ok(pair) => pair,
            Err(hash) => return Ok(Self::Shared(hmac::Key::new(hash, &private.ok_or_else(missing)?))),
        };
        let name = options.method.name();
        let private =
            private.map(|bytes| private_of(kind, &bytes).ok_or(format!("priv-key is no private key for {name}")));
        let public = public.map(|bytes| public_of(kind, &bytes).ok_or(format!("pub-key is no public key for {name}")));
        let (private, public) = (private.transpose()?, public.transpose()?);
        let own = private.as_ref().map(Private::public);
        if let (Some(own), Some(public)) = (&own, &public)
            && own != public
        {
            return Err("public and private keys don't match".to_owned());
        }
        let public = UnparsedPublicKey::new(algorithm, own.or(public).ok_or_else(missing)?);
        Ok(Self::Pair { public, private })
    }

    /// A signature, if there is a key that makes one.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Shared(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Self::Pair { private, .. } => private.as_ref()?.sign(message),
        }
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Pair { public, .. } => public.verify(message, signature).is_ok(),
        }
    }
}

impl Private {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => pair.sign(&random, message).ok().map(|made| made.as_ref().to_vec()),
            Self::Ed(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Self::Rsa(pair, encoding) => {
                let mut made = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, message, &mut made).ok()?;
                Some(made)
            }
        }
    }

    /// The public half, in the form that [`public_of`] returns.
    fn public(&self) -> Vec<u8> {
        match self {
            Self::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Self::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
        }
    }
}

/// The kind of pair of a method, and how its signatures are checked; `Err` has the hash of a shared secret.
fn pair_of(method: SignMethod) -> Result<(Kind, &'static dyn VerificationAlgorithm), hmac::Algorithm> {
    Ok(match method {
        SignMethod::EdDsa => (Kind::Ed, &signature::ED25519),
        SignMethod::Es256 => (
            Kind::Ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, P256),
            &signature::ECDSA_P256_SHA256_FIXED,
        ),
        SignMethod::Es384 => (
            Kind::Ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, P384),
            &signature::ECDSA_P384_SHA384_FIXED,
        ),
        SignMethod::Hs256 => return Err(hmac::HMAC_SHA256),
        SignMethod::Hs384 => return Err(hmac::HMAC_SHA384),
        SignMethod::Hs512 => return Err(hmac::HMAC_SHA512),
        SignMethod::Ps256 => (
            Kind::Rsa(&signature::RSA_PSS_SHA256),
            &signature::RSA_PSS_2048_8192_SHA256,
        ),
        SignMethod::Ps384 => (
            Kind::Rsa(&signature::RSA_PSS_SHA384),
            &signature::RSA_PSS_2048_8192_SHA384,
        ),
        SignMethod::Ps512 => (
            Kind::Rsa(&signature::RSA_PSS_SHA512),
            &signature::RSA_PSS_2048_8192_SHA512,
        ),
        SignMethod::Rs256 => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA256),
            &signature::RSA_PKCS1_2048_8192_SHA256,
        ),
        SignMethod::Rs384 => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA384),
            &signature::RSA_PKCS1_2048_8192_SHA384,
        ),
        SignMethod::Rs512 => (
            Kind::Rsa(&signature::RSA_PKCS1_SHA512),
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A private key in PEM: PKCS #8, or the older form of its kind.
fn private_of(kind: Kind, pem: &[u8]) -> Option<Private> {
    let (label, der) = block(pem, "PRIVATE KEY")?;
    match (kind, label) {
        (Kind::Ec(algorithm, _), "") => {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new());
            pair.ok().map(Private::Ec)
        }
        (Kind::Ec(algorithm, curve), "EC ") => older_ec(algorithm, curve, &der).map(Private::Ec),
        (Kind::Ed, "") => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok().map(Private::Ed),
        (Kind::Rsa(encoding), "") => {
            let pair = RsaKeyPair::from_pkcs8(&der);
            pair.ok().map(|pair| Private::Rsa(pair, encoding))
        }
        (Kind::Rsa(encoding), "RSA ") => RsaKeyPair::from_der(&der).ok().map(|pair| Private::Rsa(pair, encoding)),
        _ => None,
    }
}

/// A private key in the form of RFC 5915.
fn older_ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &[u8], der: &[u8]) -> Option<EcdsaKeyPair> {
    let mut key = content(&mut &*der, SEQUENCE)?;
    content(&mut key, INTEGER)?;
    let private = content(&mut key, OCTET_STRING)?;
    if content(&mut content(&mut key, FIRST_OPTIONAL)?, IDENTIFIER)? != curve {
        return None;
    }
    let public = content(&mut content(&mut key, SECOND_OPTIONAL)?, BIT_STRING)?;
    let public = public.strip_prefix(&[0])?;
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &SystemRandom::new()).ok()
}

/// The bytes of a public key in PEM: of RSA the DER of modulus and exponent, else the point.
fn public_of(kind: Kind, pem: &[u8]) -> Option<Vec<u8>> {
    let (label, der) = block(pem, "PUBLIC KEY")?;
    if label == "RSA " {
        return matches!(kind, Kind::Rsa(_)).then_some(der);
    }
    let mut key = content(&mut &*der, SEQUENCE)?;
    let mut algorithm = content(&mut key, SEQUENCE)?;
    let is_of_kind = match kind {
        Kind::Ec(_, curve) => {
            content(&mut algorithm, IDENTIFIER)? == EC && content(&mut algorithm, IDENTIFIER)? == curve
        }
        Kind::Ed => content(&mut algorithm, IDENTIFIER)? == ED25519,
        Kind::Rsa(_) => content(&mut algorithm, IDENTIFIER)? == RSA,
    };
    let bits = content(&mut key, BIT_STRING)?.strip_prefix(&[0])?;
    is_of_kind.then(|| bits.to_vec())
}

/// The first block of PEM whose label ends like this: the beginning of the label, and the bytes.
fn block<'a>(pem: &'a [u8], label_end: &str) -> Option<(&'a str, Vec<u8>)> {
    let text = std::str::from_utf8(pem).ok()?;
    for part in text.split("-----BEGIN ").skip(1) {
        let (label, rest) = part.split_once("-----")?;
        let Some(label) = label.strip_suffix(label_end) else {
            continue;
        };
        let (body, _) = rest.split_once("-----END ")?;
        let body: String = body.split_ascii_whitespace().collect();
        return Some((label, STANDARD.decode(body).ok()?));
    }
    None
}

/// Takes an element with this tag off the bytes, and returns its content.
fn content<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (head, rest) = der.split_at_checked(2)?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    Some(content)
}
