//! Tests of the watch hub over the true key space: stories one can read, and random runs against a naive reference.

#[cfg(test)]
mod random;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod story;
#[cfg(test)]
mod world;
