//! The hand-written scripts, on a real etcd, on ours and on the model.

use quoin_conformance::diff::{Sides, scripted, scripts};
use quoin_conformance::{Kind, Setup};

fn play(kind: Kind) {
    let sides = Sides::of(kind, Setup::ALONE).expect("a server program");
    for script in scripts() {
        let report = scripted(&script, &sides).expect("servers that can be reached");
        if let Some(divergence) = report.divergence {
            panic!("{}: {divergence}", script.name);
        }
    }
}

#[test]
fn quoin_tokio() {
    play(Kind::QuoinTokio);
}

#[test]
fn quoin_smol() {
    play(Kind::QuoinSmol);
}

#[test]
fn quoin_async_std() {
    play(Kind::QuoinAsyncStd);
}
