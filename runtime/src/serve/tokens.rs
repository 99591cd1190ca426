//! Tokens of users: which user a token is of, and the random part of new ones.

use quoin_core::proto::etcdserverpb::RequestHeader;

use super::Context;

/// The letters of a simple token, and how many it has.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const PREFIX_LETTERS: usize = 16;

/// The header of requests with this token, if the token is valid; `revision` is the present auth revision.
pub(crate) fn user_of(context: &Context, token: &str, revision: u64) -> Option<RequestHeader> {
    Some(RequestHeader {
        username: context.node.token_user(context.clock.now(), token)?,
        auth_revision: revision,
        ..RequestHeader::default()
    })
}

/// A random prefix for a simple token.
pub(crate) fn prefix() -> String {
    let mut prefix = String::with_capacity(PREFIX_LETTERS);
    while prefix.len() < PREFIX_LETTERS {
        let mut bytes = [0; PREFIX_LETTERS];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        // Bytes beyond the largest multiple of the number of letters would make some letters likelier.
        let fair = bytes
            .iter()
            .filter(|byte| usize::from(**byte) < 256 / LETTERS.len() * LETTERS.len());
        let letters = fair.map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]));
        prefix.extend(letters.take(PREFIX_LETTERS - prefix.len()));
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_sixteen_letters_and_is_new_each_time() {
        let (one, other) = (prefix(), prefix());
        assert_ne!(one, other);
        for prefix in [one, other] {
            assert_eq!(prefix.len(), PREFIX_LETTERS);
            assert!(prefix.bytes().all(|letter| LETTERS.contains(&letter)), "{prefix}");
        }
    }
}
