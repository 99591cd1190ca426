//! Tests of the checker: against brute force, with each of its rules broken, on long histories, and on known anomalies.

mod brute;
mod differential;
mod explaining;
mod histories;
mod long;
mod registers;
mod store;
mod stories;
