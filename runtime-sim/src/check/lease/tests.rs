//! Stories of leases.
