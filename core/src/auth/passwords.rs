//! Passwords found right, so that a client that authenticates again and again does not cost a bcrypt comparison each
//! time.
//!
//! A comparison takes a tenth of a second on purpose. This keeps a fast hash of three things: the password, the bcrypt
//! hash that it was compared with, and a secret of this process. A user that gets a new password gets another bcrypt hash
//! too, so the old password is no longer known.

use std::collections::{BTreeSet, VecDeque};

use sha2::{Digest as _, Sha256};

use crate::limits::REMEMBERED_PASSWORDS;

/// The passwords found right.
pub struct KnownPasswords {
    secret: [u8; 32],
    known: BTreeSet<[u8; 32]>,
    /// In the order in which they were found.
    order: VecDeque<[u8; 32]>,
}

impl KnownPasswords {
    /// None yet. `secret` is random.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            known: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether this password was found to fit this bcrypt hash.
    #[must_use]
    pub fn fits(&self, password: &str, bcrypt: &[u8]) -> bool {
        self.known.contains(&self.digest(password, bcrypt))
    }

    /// This password was found to fit this bcrypt hash.
    pub fn remember(&mut self, password: &str, bcrypt: &[u8]) {
        let digest = self.digest(password, bcrypt);
        if !self.known.insert(digest) {
            return;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED_PASSWORDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn digest(&self, password: &str, bcrypt: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update((bcrypt.len() as u64).to_be_bytes());
        hash.update(bcrypt);
        hash.update(password);
        hash.finalize().into()
    }
}

impl std::fmt::Debug for KnownPasswords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownPasswords")
            .field("known", &self.known.len())
            .finish_non_exhaustive()
    }
}
