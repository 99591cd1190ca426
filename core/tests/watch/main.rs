//! Tests of the watch hub over the real key space: readable scripts, and random runs against a simple reference.

#[cfg(test)]
mod random;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod story;
#[cfg(test)]
mod world;
