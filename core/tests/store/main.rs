//! The store from outside: golden stories of entries and what they lead to, and runs of random entries.

#[cfg(test)]
mod harness;
#[cfg(test)]
mod random;
#[cfg(test)]
mod show;
#[cfg(test)]
mod story;
