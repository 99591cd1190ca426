//! Clients with a store of the tests: their requests over many seeds, and their behaviour when it fails.

mod bench;
mod coverage;
mod lock;
mod mock;
mod requests;
mod watches;
