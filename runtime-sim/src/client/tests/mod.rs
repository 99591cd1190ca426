//! Clients against a store of the tests' own: what they ask over many seeds, and how they behave when it fails.

mod bench;
mod coverage;
mod lock;
mod mock;
mod requests;
mod watches;
