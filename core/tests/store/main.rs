//! The store from outside: scripts of entries and their consequences, and runs of random entries.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod random;
#[cfg(test)]
mod show;
#[cfg(test)]
mod story;
