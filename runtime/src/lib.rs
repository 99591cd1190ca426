//! The half of hosting a Quoin member that every runtime shares; names no executor.
