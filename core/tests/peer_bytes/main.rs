//! Damaged bytes of peers: every decoder of what a peer sends gets good bytes in which something was changed. None
//! panics, and none takes more memory than the input explains.
//!
//! etcd's v2 store, which a snapshot's message has as JSON, is missing here: it is never read.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod decoders;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod samples;

/// Inputs for each decoder: some seconds for all of them together.
#[cfg(test)]
const INPUTS: u64 = 15_000;

#[test]
fn damaged_bytes_of_peers_cause_no_panic_and_no_large_allocation() {
    decoders::try_all(0..INPUTS);
}

#[test]
#[ignore = "about an hour in a release build"]
fn damaged_bytes_of_peers_cause_no_panic_and_no_large_allocation_in_an_hour() {
    decoders::try_all(INPUTS..INPUTS * 2_000);
}
