//! A whole cluster in one thread of virtual time: real members, simulated machines, network and clients, one seed.

pub mod ports;
