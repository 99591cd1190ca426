//! Simple tokens: random texts that members give out, and forget after a time without use.
//!
//! A token is a random prefix, a dot, and the index of the entry that gave it out. That entry names the prefix, so each
//! member that applies it knows the token. Tokens are in memory only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::MAX_SIMPLE_TOKENS;
use crate::time::Instant;

/// What becomes of the tokens that members keep.
#[derive(Clone, Eq, PartialEq)]
pub enum TokenChange {
    /// A user has authenticated.
    Assigned {
        /// The token.
        token: String,
        /// Its user.
        user: String,
    },
    /// All tokens have ended: auth is off, or the state was replaced.
    Cleared,
    /// The tokens of a user have ended.
    Revoked {
        /// The user.
        user: String,
    },
}

/// Shows no token.
impl std::fmt::Debug for TokenChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Assigned { user, .. } => write!(f, "Assigned to {user:?}"),
            Self::Cleared => f.write_str("Cleared"),
            Self::Revoked { user } => write!(f, "Revoked of {user:?}"),
        }
    }
}

/// How long a token is valid without use, unless it is set (`--auth-token-ttl`).
const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// The tokens that a member knows.
pub struct SimpleTokens {
    ttl: Duration,
    /// The user of each token, and when the token ends if it is not used.
    known: BTreeMap<String, (String, Instant)>,
    /// When to look for ended tokens next.
    sweep_at: Instant,
}

impl Default for SimpleTokens {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            known: BTreeMap::new(),
            sweep_at: Instant::ZERO,
        }
    }
}

/// Shows no token.
impl std::fmt::Debug for SimpleTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimpleTokens")
            .field("known", &self.known.len())
            .finish_non_exhaustive()
    }
}

impl SimpleTokens {
    /// Sets how long a token is valid without use; zero stands for five minutes.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = if ttl.is_zero() { DEFAULT_TTL } else { ttl };
    }

    /// Takes over a change.
    pub fn change(&mut self, now: Instant, change: TokenChange) {
        match change {
            TokenChange::Assigned { token, user } => {
                self.make_room(now);
                self.known.insert(token, (user, now + self.ttl));
            }
            TokenChange::Cleared => self.known.clear(),
            TokenChange::Revoked { user } => self.known.retain(|_, (of, _)| *of != user),
        }
    }

    /// The user of a token, which is thereby used.
    pub fn user(&mut self, now: Instant, token: &str) -> Option<&str> {
        let (user, end) = self.known.get_mut(token).filter(|(_, end)| now <= *end)?;
        *end = now + self.ttl;
        Some(user)
    }

    /// How many tokens are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets ended tokens now and then. If there are too many tokens, the tenth part that is unused for longest ends.
    fn make_room(&mut self, now: Instant) {
        if now >= self.sweep_at || self.known.len() >= MAX_SIMPLE_TOKENS {
            self.known.retain(|_, (_, end)| now <= *end);
            self.sweep_at = now + self.ttl / 2;
        }
        if self.known.len() >= MAX_SIMPLE_TOKENS {
            let mut ends: Vec<Instant> = self.known.values().map(|(_, end)| *end).collect();
            let (_, last, _) = ends.select_nth_unstable(MAX_SIMPLE_TOKENS / 10);
            let last = *last;
            self.known.retain(|_, (_, end)| *end > last);
        }
    }
}

/// The index in a simple token: its entry is applied before the token is known. `None` for a text of another form.
#[must_use]
pub fn token_index(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    if index.bytes().all(|byte| byte.is_ascii_digit()) {
        index.parse().ok()
    } else {
        None
    }
}
