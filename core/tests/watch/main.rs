//! Tests of the watch hub over the true key space: stories one can read, and random runs against a naive reference.

mod random;
mod story;
mod world;
