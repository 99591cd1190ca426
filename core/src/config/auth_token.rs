//! `--auth-token`: a kind of token, then the options of that kind: `simple`, or
//! `jwt,pub-key=..,priv-key=..,sign-method=..,ttl=..`.

use std::path::PathBuf;
use std::time::Duration;

use super::gotext::{parse_duration, quote};

/// How tokens of users are made.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AuthToken {
    /// Random texts, which the members remember.
    #[default]
    Simple,
    /// Signed texts that name their user, which no member remembers.
    Jwt(JwtOptions),
}

/// The options of signed tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtOptions {
    /// The method of signing.
    pub method: SignMethod,
    /// A PEM file with the public key.
    pub public_key: Option<PathBuf>,
    /// A PEM file with the private key, or a file that is the secret of an HMAC.
    pub private_key: Option<PathBuf>,
    /// How long a token is valid.
    pub ttl: Duration,
}

macro_rules! methods {
    ($($name:ident = $text:literal,)*) => {
        /// A method of signing. Methods are named as in RFC 7518.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[allow(missing_docs, reason = "each variant is its method")]
        pub enum SignMethod {
            $($name,)*
        }

        impl SignMethod {
            /// All methods.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in tokens and in the flag.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

methods! {
    EdDsa = "EdDSA",
    Es256 = "ES256",
    Es384 = "ES384",
    Hs256 = "HS256",
    Hs384 = "HS384",
    Hs512 = "HS512",
    Ps256 = "PS256",
    Ps384 = "PS384",
    Ps512 = "PS512",
    Rs256 = "RS256",
    Rs384 = "RS384",
    Rs512 = "RS512",
}

/// The time for which a signed token is valid, unless it is set.
const DEFAULT_TTL: Duration = Duration::from_secs(300);

impl AuthToken {
    /// Reads the flag's value.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, options) = text.split_once(',').unwrap_or((text, ""));
        let options: Result<Vec<(&str, &str)>, String> =
            options.split(',').filter(|_| text.contains(',')).map(option).collect();
        let refused = |why: &str| {
            Err(format!(
                "auth: invalid auth options (--auth-token {}){why}",
                quote(text)
            ))
        };
        match (kind, options) {
            ("simple" | "", Ok(_)) => Ok(Self::Simple),
            ("jwt", Ok(options)) => JwtOptions::of(&options).map(Self::Jwt),
            ("simple" | "" | "jwt", Err(why)) => refused(&format!(": {why}")),
            _ => refused(""),
        }
    }
}

/// Splits `name=value`. As in etcd, a value has no second `=`.
fn option(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('=') {
        Some((name, value)) if !value.contains('=') => Ok((name, value)),
        _ => Err(format!("invalid token option {}", quote(text))),
    }
}

impl JwtOptions {
    /// Options that are not known are ignored, as in etcd.
    fn of(options: &[(&str, &str)]) -> Result<Self, String> {
        let refused = |why: String| format!("auth: invalid auth options (--auth-token=jwt): {why}");
        let mut names: Vec<&str> = options.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(refused(format!("{} is given twice", pair[0])));
        }
        let value = |wanted: &str| {
            let found = options.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| *value).filter(|value| !value.is_empty())
        };
        let method = value("sign-method").unwrap_or_default();
        if method == "ES512" {
            return Err("--auth-token with sign-method=ES512 is not supported by this version".to_owned());
        }
        let method = SignMethod::ALL.iter().find(|known| known.name() == method);
        let ttl = match value("ttl") {
            None => DEFAULT_TTL,
            // A token that ends before it begins is good for nothing; etcd gives it out all the same.
            Some(text) => match u64::try_from(parse_duration(text).map_err(refused)?) {
                Ok(nanos) => Duration::from_nanos(nanos),
                Err(_) => return Err(refused(format!("ttl {text} is negative"))),
            },
        };
        Ok(Self {
            method: *method.ok_or_else(|| refused("auth: invalid auth signature method".to_owned()))?,
            public_key: value("pub-key").map(PathBuf::from),
            private_key: value("priv-key").map(PathBuf::from),
            ttl,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_in_etcd() {
        for simple in ["simple", "", "simple,ttl=1m"] {
            assert_eq!(AuthToken::parse(simple), Ok(AuthToken::Simple), "{simple:?}");
        }
        let expected = JwtOptions {
            method: SignMethod::Rs256,
            public_key: Some("a.pem".into()),
            private_key: None,
            ttl: Duration::from_secs(90),
        };
        let read = AuthToken::parse("jwt,pub-key=a.pem,priv-key=,sign-method=RS256,ttl=1m30s,other=1");
        assert_eq!(read, Ok(AuthToken::Jwt(expected.clone())));
        let default = JwtOptions {
            ttl: DEFAULT_TTL,
            ..expected
        };
        let read = AuthToken::parse("jwt,sign-method=RS256,pub-key=a.pem");
        assert_eq!(read, Ok(AuthToken::Jwt(default)));
    }

    #[test]
    fn a_method_that_is_no_signature_is_refused_and_so_are_unclear_options() {
        for (text, why) in [
            ("magic", "(--auth-token \"magic\")"),
            ("jwt", "auth: invalid auth signature method"),
            ("jwt,sign-method=none", "auth: invalid auth signature method"),
            ("jwt,sign-method=rs256", "auth: invalid auth signature method"),
            ("jwt,sign-method=ES512", "ES512 is not supported by this version"),
            ("jwt,sign-method=RS256,ttl=1", "time: missing unit in duration \"1\""),
            ("jwt,sign-method=RS256,ttl=-1s", "ttl -1s is negative"),
            ("jwt,sign-method=RS256,sign-method=HS256", "sign-method is given twice"),
            ("jwt,sign-method", "invalid token option \"sign-method\""),
            ("jwt,pub-key=a=b", "invalid token option \"pub-key=a=b\""),
        ] {
            let refused = AuthToken::parse(text).unwrap_err();
            assert!(refused.ends_with(why), "{text}: {refused}");
        }
    }
}
