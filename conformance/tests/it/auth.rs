//! Users, roles and permissions beside a real etcd: the same verdict for every request, while permissions come and go.
//!
//! `QUOIN_AUTH_STEPS=100000 cargo test --release --workspace --test it auth` makes more requests, and `QUOIN_SEED` sets
//! another seed.

use quoin_conformance::{Kind, rng, shapes, signed, users};

/// Steps of a run of the tests.
const STEPS: u64 = 2_000;

fn compare(kind: Kind, seed: u64) {
    let seed = rng::number_from_env("QUOIN_SEED").unwrap_or(seed);
    let steps = rng::number_from_env("QUOIN_AUTH_STEPS").unwrap_or(STEPS);
    let compared = users::compare(kind, seed, steps as usize);
    let compared = compared.unwrap_or_else(|trouble| panic!("{trouble}"));
    println!("seed {seed}: {compared:?}");
    // A run in which nothing is permitted, or nothing refused, compares nothing.
    let least = steps as usize / 10;
    assert!(compared.permitted > least && compared.refused > least, "{compared:?}");
}

#[test]
fn quoin_tokio_permits_and_refuses_as_etcd_does() {
    compare(Kind::QuoinTokio, 1);
}

#[test]
fn quoin_smol_permits_and_refuses_as_etcd_does() {
    compare(Kind::QuoinSmol, 2);
}

#[test]
fn signed_tokens_of_etcd_and_of_ours_are_served_by_both() {
    // Not EdDSA, with which Debian's etcd 3.5.30 does not start; `runtime`'s own tests have it.
    for (kind, method, keys) in [
        (Kind::QuoinTokio, "RS256", "rsa"),
        (Kind::QuoinSmol, "PS384", "rsa"),
        (Kind::QuoinTokio, "ES256", "es256"),
        (Kind::QuoinSmol, "ES384", "es384"),
        (Kind::QuoinSmol, "HS256", "rsa"),
    ] {
        signed::compare(kind, method, keys).unwrap_or_else(|trouble| panic!("{method}: {trouble}"));
    }
}

#[test]
fn requests_by_which_permissions_of_etcd_could_be_passed_are_refused() {
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        shapes::compare(kind).unwrap_or_else(|trouble| panic!("{trouble}"));
    }
}
