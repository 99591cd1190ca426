//! TLS around the sockets of the seam, with rustls. No runtime crate knows of it: a secured socket is a
//! [`Socket`](crate::seam::Socket) over another one.
//!
//! - `server` takes connections on secure ports, `client` makes them to peers.
//! - `files` reads certificates, CAs and revocation lists, and reads them again when they have changed.
//! - `verify` decides which certificates are accepted, `addresses` whether a peer's address fits its certificate.
//! - `shake` carries out a handshake, `socket` is the connection after it.
//! - `pending` bounds the handshakes in progress; `words` has the errors in Go's words.
//! - `made` makes the certificates of `--auto-tls` and `--peer-auto-tls`.

mod addresses;
pub(crate) mod client;
mod files;
mod made;
mod pending;
pub(crate) mod server;
mod shake;
mod socket;
mod suites;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub(crate) use client::Dialer;
pub(crate) use made::make_certificates;
pub(crate) use server::{SecurePort, SecurePorts, Secured};
