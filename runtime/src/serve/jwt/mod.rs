//! Signed tokens (`--auth-token=jwt`): JSON web tokens in the compact form of RFC 7515. A token has its user, the auth
//! revision at which the user authenticated, and an end. Every member that has the key reads it; none remembers it.
//!
//! The flag sets the method of signing. A token of another method is refused before its signature is looked at. So a token
//! with the method `none` is refused, and so is one that was signed with the public key as if it were a shared secret.

mod keys;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quoin_core::config::{JwtOptions, SignMethod};
use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::RequestHeader;
use serde_json::{Value, json};

use keys::Key;

/// Makes and reads signed tokens.
#[derive(Debug)]
pub(crate) struct Jwt {
    method: SignMethod,
    key: Key,
    ttl: Duration,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// Why a key cannot be used.
    pub(crate) fn load(options: &JwtOptions) -> Result<Self, String> {
        Ok(Self {
            method: options.method,
            key: Key::load(options).map_err(|why| format!("--auth-token=jwt: {why}"))?,
            ttl: options.ttl,
        })
    }

    /// A token for a user that has authenticated at this auth revision. `now` is the time since 1970.
    ///
    /// # Errors
    /// [`Error::VerifyOnly`] if this member has no private key.
    pub(crate) fn sign(&self, now: Duration, user: &str, revision: u64) -> Result<String, Error> {
        let header = json!({ "alg": self.method.name(), "typ": "JWT" });
        let claims = json!({ "exp": (now + self.ttl).as_secs(), "revision": revision, "username": user });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(signed.as_bytes()).ok_or(Error::VerifyOnly)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The header of requests with this token, if it is valid at `now`, the time since 1970.
    pub(crate) fn user_of(&self, now: Duration, token: &str) -> Option<RequestHeader> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if decode(header)?.get("alg")?.as_str()? != self.method.name() {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.key.verify(signed.as_bytes(), &signature) {
            return None;
        }
        let claims = decode(claims)?;
        let now = now.as_secs_f64();
        let is_in_time = at(&claims, "exp", |end| end == 0.0 || now < end)
            && at(&claims, "nbf", |begin| begin <= now)
            && at(&claims, "iat", |issued| issued <= now);
        if !is_in_time {
            return None;
        }
        Some(RequestHeader {
            username: claims.get("username")?.as_str()?.to_owned(),
            // Go reads every number as a float.
            auth_revision: claims.get("revision")?.as_f64()? as u64,
            ..RequestHeader::default()
        })
    }
}

/// A part of a token: an object in base64.
fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether a claim about time holds. One that is missing does; one that is no number does not.
fn at(claims: &Value, name: &str, holds: impl Fn(f64) -> bool) -> bool {
    claims.get(name).is_none_or(|time| time.as_f64().is_some_and(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn path(file: &str) -> std::path::PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "src/serve/jwt/keys", file]
            .iter()
            .collect()
    }

    fn options(method: SignMethod) -> JwtOptions {
        let name = match method {
            SignMethod::EdDsa => "eddsa",
            SignMethod::Es256 => "es256",
            SignMethod::Es384 => "es384",
            _ => "rsa",
        };
        JwtOptions {
            method,
            public_key: Some(path(&format!("{name}.pub.pem"))),
            private_key: Some(path(&format!("{name}.pem"))),
            ttl: Duration::from_secs(60),
        }
    }

    fn with_claims(jwt: &Jwt, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = jwt.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_token_of_each_method_names_its_user_until_it_ends() {
        for method in SignMethod::ALL {
            let jwt = Jwt::load(&options(*method)).unwrap();
            let token = jwt.sign(NOW, "ann", 7).unwrap();
            let user = jwt.user_of(NOW + Duration::from_secs(59), &token).unwrap();
            assert_eq!((user.username.as_str(), user.auth_revision), ("ann", 7), "{method:?}");
            assert_eq!(jwt.user_of(NOW + Duration::from_secs(60), &token), None, "{method:?}");
            let mut forged = token.clone().into_bytes();
            let middle = forged.len() / 2;
            forged[middle] ^= 1;
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(jwt.user_of(NOW, &forged), None, "{method:?}");
        }
    }

    #[test]
    fn a_public_key_reads_tokens_and_makes_none() {
        for method in [SignMethod::Rs256, SignMethod::Es256, SignMethod::EdDsa] {
            let both = Jwt::load(&options(method)).unwrap();
            let reader = Jwt::load(&JwtOptions {
                private_key: None,
                ..options(method)
            });
            let reader = reader.unwrap();
            let token = both.sign(NOW, "ann", 7).unwrap();
            assert!(reader.user_of(NOW, &token).is_some(), "{method:?}");
            assert_eq!(reader.sign(NOW, "ann", 7), Err(Error::VerifyOnly), "{method:?}");
        }
    }

    /// What has let strangers into other servers.
    #[test]
    fn the_header_of_a_token_does_not_choose_the_method() {
        let jwt = Jwt::load(&options(SignMethod::Rs256)).unwrap();
        let claims = json!({ "username": "root", "revision": 1 });
        let parts = |alg: &str| {
            let header = json!({ "alg": alg, "typ": "JWT" });
            let [header, claims] = [&header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            format!("{header}.{claims}")
        };
        for alg in ["none", "None", "", "HS256"] {
            assert_eq!(jwt.user_of(NOW, &format!("{}.", parts(alg))), None, "{alg:?}");
        }
        // The public key, which everybody has, as the secret of an HMAC.
        let public = JwtOptions {
            private_key: Some(path("rsa.pub.pem")),
            ..options(SignMethod::Hs256)
        };
        let confused = Jwt::load(&public).unwrap();
        for alg in ["HS256", "RS256"] {
            let token = with_claims(&confused, &json!({ "alg": alg }), &claims);
            assert_eq!(jwt.user_of(NOW, &token), None, "{alg}");
        }
        assert!(
            jwt.user_of(NOW, &with_claims(&jwt, &json!({ "alg": "RS256" }), &claims))
                .is_some()
        );
    }

    #[test]
    fn claims_are_read_as_in_etcd() {
        let jwt = Jwt::load(&options(SignMethod::Hs256)).unwrap();
        let now = NOW.as_secs();
        for (claims, expected) in [
            (json!({ "username": "ann", "revision": 3.0 }), Some(3)),
            (json!({ "username": "ann", "revision": 3, "exp": 0 }), Some(3)),
            (
                json!({ "username": "ann", "revision": 3, "nbf": now, "iat": now }),
                Some(3),
            ),
            (json!({ "username": "ann", "revision": 3, "nbf": now + 1 }), None),
            (json!({ "username": "ann", "revision": 3, "iat": now + 1 }), None),
            (json!({ "username": "ann", "revision": 3, "exp": "never" }), None),
            (json!({ "username": "ann", "revision": "3" }), None),
            (json!({ "username": "ann" }), None),
            (json!({ "username": 1, "revision": 3 }), None),
            (json!({ "revision": 3 }), None),
            (json!(["ann", 3]), None),
        ] {
            let token = with_claims(&jwt, &json!({ "alg": "HS256" }), &claims);
            let revision = jwt.user_of(NOW, &token).map(|user| user.auth_revision);
            assert_eq!(revision, expected, "{claims}");
        }
        for token in ["", ".", "..", "a.b", "a.b.c", "\u{e9}.\u{e9}.\u{e9}", "abc.12"] {
            assert_eq!(jwt.user_of(NOW, token), None, "{token:?}");
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        for (options, why) in [
            (
                JwtOptions {
                    public_key: None,
                    private_key: None,
                    ..options(SignMethod::Rs256)
                },
                "missing key data",
            ),
            (
                JwtOptions {
                    private_key: None,
                    ..options(SignMethod::Hs256)
                },
                "missing key data",
            ),
            (
                JwtOptions {
                    public_key: Some(path("es256.pub.pem")),
                    ..options(SignMethod::Es384)
                },
                "is no public key for ES384",
            ),
            (
                JwtOptions {
                    private_key: Some(path("eddsa.pem")),
                    ..options(SignMethod::Ps256)
                },
                "is no private key for PS256",
            ),
            (
                JwtOptions {
                    private_key: Some(path("rsa.pub.pem")),
                    ..options(SignMethod::Rs256)
                },
                "is no private key for RS256",
            ),
            (
                JwtOptions {
                    public_key: Some(path("no such file")),
                    ..options(SignMethod::Rs256)
                },
                "No such file or directory (os error 2)",
            ),
        ] {
            let refused = Jwt::load(&options).unwrap_err();
            assert!(refused.ends_with(why), "{refused}");
        }
    }
}
