//! The rules of auth: changes and their errors in etcd's order, ranges, rows, tokens and remembered passwords.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::limits::{MAX_SIMPLE_TOKENS, REMEMBERED_PASSWORDS};
use crate::proto::authpb::permission::Type;
use crate::proto::authpb::{User, UserAddOptions};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, InternalAuthenticateRequest, PutRequest, RangeRequest, RequestHeader, RequestOp,
    TxnRequest,
};
use crate::store::Leases;
use crate::table::Bucket;
use crate::time::Instant;

fn user_add(name: &str, password: &str) -> AuthChange {
    AuthChange::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: encode(password),
        ..AuthUserAddRequest::default()
    })
}

fn user_delete(name: &str) -> AuthChange {
    AuthChange::UserDelete(AuthUserDeleteRequest { name: name.to_owned() })
}

fn change_password(name: &str, password: &str) -> AuthChange {
    AuthChange::UserChangePassword(AuthUserChangePasswordRequest {
        name: name.to_owned(),
        hashed_password: encode(password),
        ..AuthUserChangePasswordRequest::default()
    })
}

fn grant_role(user: &str, role: &str) -> AuthChange {
    AuthChange::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn revoke_role(name: &str, role: &str) -> AuthChange {
    AuthChange::UserRevokeRole(AuthUserRevokeRoleRequest {
        name: name.to_owned(),
        role: role.to_owned(),
    })
}

fn role_add(name: &str) -> AuthChange {
    AuthChange::RoleAdd(AuthRoleAddRequest { name: name.to_owned() })
}

fn role_delete(role: &str) -> AuthChange {
    AuthChange::RoleDelete(AuthRoleDeleteRequest { role: role.to_owned() })
}

fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
    Permission {
        perm_type: kind as i32,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}

fn grant(role: &str, kind: Type, key: &str, range_end: &str) -> AuthChange {
    AuthChange::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(permission(kind, key, range_end)),
    })
}

fn revoke(role: &str, key: &str, range_end: &str) -> AuthChange {
    AuthChange::RoleRevokePermission(AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    })
}

fn apply(auth: &mut Auth, change: &AuthChange) -> Result<(), Error> {
    auth.apply(change, &mut Entered::default())
}

/// A state after these changes, all of which succeed.
fn auth(changes: &[AuthChange]) -> Auth {
    let mut auth = Auth::default();
    for change in changes {
        assert_eq!(apply(&mut auth, change), Ok(()), "{change:?}");
    }
    auth
}

/// The state with auth enabled, and beside root a user ann with the role r.
fn enabled(changes: &[AuthChange]) -> Auth {
    let first = [
        user_add("root", "#root"),
        grant_role("root", "root"),
        role_add("r"),
        user_add("ann", "#ann"),
        grant_role("ann", "r"),
    ];
    auth(&[&first, changes, &[AuthChange::Enable]].concat())
}

#[test]
fn each_change_has_etcds_errors_and_counts_once() {
    let mut auth = Auth::default();
    assert_eq!(auth.revision(), 1);
    let no_perm = AuthChange::RoleGrantPermission(AuthRoleGrantPermissionRequest::default());
    let script = [
        (AuthChange::Enable, Err(Error::RootUserNotExist), 1),
        (AuthChange::Disable, Ok(()), 1),
        (user_add("", "#"), Err(Error::UserEmpty), 1),
        (role_add(""), Err(Error::RoleEmpty), 1),
        (
            user_add(&"u".repeat(MAX_NAME_BYTES + 1), "#"),
            Err(Error::RequestTooLarge),
            1,
        ),
        (user_add("root", "#root"), Ok(()), 2),
        (user_add("root", "#root"), Err(Error::UserAlreadyExists), 2),
        (AuthChange::Enable, Err(Error::RootRoleNotExist), 2),
        (grant_role("root", "root"), Ok(()), 3),
        (grant_role("root", "root"), Ok(()), 3),
        (grant_role("bob", "root"), Err(Error::UserNotFound), 3),
        (grant_role("root", "r"), Err(Error::RoleNotFound), 3),
        (role_add("r"), Ok(()), 4),
        (role_add("r"), Err(Error::RoleAlreadyExists), 4),
        (no_perm, Err(Error::PermissionNotGiven), 4),
        (grant("r", Type::Read, "", ""), Err(Error::InvalidAuthManagement), 4),
        (grant("r", Type::Read, "b", "a"), Err(Error::InvalidAuthManagement), 4),
        (grant("r", Type::Read, "a", "a"), Err(Error::InvalidAuthManagement), 4),
        (grant("other", Type::Read, "a", "\0"), Err(Error::RoleNotFound), 4),
        (grant("r", Type::Read, "a", "b"), Ok(()), 5),
        (grant("r", Type::Read, "a", "b"), Ok(()), 6),
        (revoke("r", "a", ""), Err(Error::PermissionNotGranted), 6),
        (revoke("other", "a", "b"), Err(Error::RoleNotFound), 6),
        (revoke("r", "a", "b"), Ok(()), 7),
        (change_password("ann", "#"), Err(Error::UserNotFound), 7),
        (change_password("root", "#"), Ok(()), 8),
        (AuthChange::Enable, Ok(()), 8),
        (AuthChange::Enable, Ok(()), 8),
        (user_delete("root"), Err(Error::InvalidAuthManagement), 8),
        (role_delete("root"), Err(Error::InvalidAuthManagement), 8),
        (revoke_role("root", "root"), Err(Error::InvalidAuthManagement), 8),
        (revoke_role("root", "r"), Err(Error::RoleNotGranted), 8),
        (revoke_role("bob", "r"), Err(Error::UserNotFound), 8),
        (user_delete("bob"), Err(Error::UserNotFound), 8),
        (role_delete("other"), Err(Error::RoleNotFound), 8),
        (AuthChange::Disable, Ok(()), 9),
        (AuthChange::Disable, Ok(()), 9),
        (role_delete("root"), Err(Error::RoleNotFound), 9),
        (revoke_role("root", "root"), Ok(()), 10),
        (user_delete("root"), Ok(()), 11),
    ];
    for (change, expected, revision) in script {
        assert_eq!(apply(&mut auth, &change), expected, "{change:?}");
        assert_eq!(auth.revision(), revision, "after {change:?}");
    }
}

#[test]
fn a_refused_change_writes_no_row() {
    let mut auth = enabled(&[]);
    let mut out = Entered::default();
    for change in [
        user_add("ann", "#"),
        user_delete("root"),
        grant_role("ann", "r"),
        AuthChange::Enable,
    ] {
        let _ = auth.apply(&change, &mut out);
    }
    assert!(out.ops.is_empty() && out.tokens.is_empty(), "{out:?}");
}

#[test]
fn a_deleted_role_is_taken_from_its_users() {
    let mut auth = enabled(&[role_add("s"), grant_role("ann", "s"), grant_role("ann", "root")]);
    assert_eq!(auth.roles_of("ann").unwrap(), ["r", "root", "s"], "in order");
    let before = auth.revision();
    apply(&mut auth, &role_delete("r")).unwrap();
    assert_eq!(auth.roles_of("ann").unwrap(), ["root", "s"]);
    assert_eq!(auth.revision(), before + 1, "one change");
    assert_eq!(auth.role_names(), ["s"]);
    assert_eq!(auth.user_names(), ["ann", "root"]);
}

#[test]
fn permissions_are_kept_by_key_and_replaced_if_their_range_is_the_same() {
    let mut auth = enabled(&[
        grant("r", Type::Read, "b", ""),
        grant("r", Type::Write, "a", "c"),
        grant("r", Type::Readwrite, "b", ""),
    ]);
    let expected = [permission(Type::Write, "a", "c"), permission(Type::Readwrite, "b", "")];
    assert_eq!(auth.permissions_of("r").unwrap(), expected);
    assert_eq!(auth.permissions_of("root"), Err(Error::RoleNotFound), "it has no row");
    apply(&mut auth, &role_add("root")).unwrap();
    assert_eq!(auth.permissions_of("root"), Ok(Vec::new()), "it needs no permission");
}

#[test]
fn ranges_of_several_roles_count_together() {
    let auth = enabled(&[
        role_add("s"),
        grant_role("ann", "s"),
        grant("r", Type::Read, "a", "c"),
        grant("s", Type::Read, "c", "e"),
        grant("r", Type::Read, "f", ""),
        grant("s", Type::Read, "f\0", "g"),
        grant("r", Type::Write, "a", "b"),
        grant("s", Type::Readwrite, "x", "\0"),
    ]);
    let ann = auth.header_of("ann");
    let read = |key: &str, end: &str| auth.permit_read(&ann, key.as_bytes(), end.as_bytes()).is_ok();
    for (key, end, expected) in [
        ("a", "", true),
        ("d", "", true),
        ("e", "", false),
        ("a", "e", true),
        ("b", "d", true),
        ("a", "e\0", false),
        ("0", "b", false),
        ("f", "g", true),
        ("f", "h", false),
        ("x", "\0", true),
        ("y", "\0", true),
        ("w", "\0", false),
        ("a", "\0", false),
        ("z", "zz", true),
        // Ranges without keys.
        ("b", "a", true),
        ("e", "a", false),
    ] {
        assert_eq!(read(key, end), expected, "{key:?} to {end:?}");
    }
    let put = |key: &str| {
        let request = PutRequest {
            key: key.to_owned().into(),
            ..PutRequest::default()
        };
        auth.permit_put(&ann, &Leases::default(), &request).is_ok()
    };
    assert!(put("a") && !put("b") && put("x"));
}

/// Compares the merged ranges of roles with a look at each key of a small alphabet.
#[test]
fn random_ranges_cover_what_their_keys_say() {
    let mut prng = crate::random::Prng::new(7);
    let letters: Vec<String> = ["", "a", "b", "c", "d"]
        .iter()
        .flat_map(|first| ["", "a", "b"].map(|second| format!("{first}{second}")))
        .filter(|key| !key.is_empty())
        .collect();
    for _ in 0..2_000 {
        let mut draw = |count: usize| prng.below(count as u64) as usize;
        let mut granted = Vec::new();
        for _ in 0..draw(5) {
            let (key, end) = (&letters[draw(letters.len())], &letters[draw(letters.len())]);
            let end = match draw(4) {
                0 => "",
                1 => "\0",
                _ => end,
            };
            if end.is_empty() || end == "\0" || *key.as_str() < *end {
                granted.push(permission(Type::Read, key, end));
            }
        }
        let half = granted.len() / 2;
        let roles = [Grants::of(&granted[..half]), Grants::of(&granted[half..])];
        let (key, end) = (&letters[draw(letters.len())], &letters[draw(letters.len())]);
        if key >= end {
            continue;
        }
        let has = |point: &str| {
            granted.iter().any(|permission| {
                let first = permission.key <= *point.as_bytes();
                match &permission.range_end[..] {
                    [] => permission.key == *point.as_bytes(),
                    [0] => first,
                    end => first && point.as_bytes() < end,
                }
            })
        };
        // A key, and one right after it, which no point is.
        let points = letters
            .iter()
            .flat_map(|letter| [letter.clone(), format!("{letter}\0\0")]);
        let mut within = points.filter(|point| point >= key && point < end);
        let expected = within.all(|point| has(&point));
        let covered = ranges::cover(roles.iter(), KeyAccess::Read, key.as_bytes(), end.as_bytes());
        assert_eq!(covered, expected, "{key:?} to {end:?} of {granted:?}");
    }
}

#[test]
fn a_request_needs_a_user_of_the_present_revision() {
    let auth = enabled(&[grant("r", Type::Readwrite, "a", "b")]);
    let header = |name: &str, revision: u64| RequestHeader {
        username: name.to_owned(),
        auth_revision: revision,
        ..RequestHeader::default()
    };
    let now = auth.revision();
    for (name, revision, expected) in [
        ("ann", now, Ok(())),
        ("ann", now + 1, Ok(())),
        ("ann", now - 1, Err(Error::AuthOldRevision)),
        ("ann", 0, Err(Error::UserEmpty)),
        ("bob", now, Err(Error::PermissionDenied)),
        ("root", now, Ok(())),
        ("root", now - 1, Err(Error::AuthOldRevision)),
    ] {
        let read = auth.permit_read(&header(name, revision), b"a", b"");
        assert_eq!(read, expected, "{name} at {revision}");
    }
    for (name, expected) in [
        ("root", Ok(())),
        ("ann", Err(Error::PermissionDenied)),
        ("bob", Err(Error::UserNotFound)),
        ("", Err(Error::UserEmpty)),
    ] {
        assert_eq!(auth.permit_root(&header(name, 1)), expected, "{name:?}");
    }
    let none = RequestHeader::default();
    assert_eq!(auth.permit_read(&none, b"a", b""), Err(Error::UserEmpty));
    assert_eq!(auth.permit_user(&none), Err(Error::UserEmpty));
    let (ann, bob) = (auth.header_of("ann"), auth.header_of("bob"));
    assert_eq!(auth.permit_user(&bob), Ok(()), "as in etcd");
    assert_eq!(auth.permit_same_user(&ann, "ann"), Ok(()));
    assert_eq!(auth.permit_same_user(&ann, "root"), Err(Error::PermissionDenied));
    assert_eq!(auth.permit_role(&ann, "r"), Ok(()));
    assert_eq!(auth.permit_role(&ann, "s"), Err(Error::PermissionDenied));
    let off = Auth::default();
    assert_eq!(off.permit_read(&none, b"a", b""), Ok(()), "auth is off");
    assert_eq!(off.permit_root(&none), Ok(()), "auth is off");
}

/// Transactions are looked at in both branches and at every depth; a previous value is read.
#[test]
fn all_of_a_transaction_must_be_permitted() {
    let auth = enabled(&[
        grant("r", Type::Readwrite, "rw", ""),
        grant("r", Type::Read, "r", ""),
        grant("r", Type::Write, "w", ""),
    ]);
    let put = |key: &str, prev_kv| {
        Request::RequestPut(PutRequest {
            key: key.to_owned().into(),
            prev_kv,
            ..PutRequest::default()
        })
    };
    let range = |key: &str| {
        Request::RequestRange(RangeRequest {
            key: key.to_owned().into(),
            ..RangeRequest::default()
        })
    };
    let op = |request| RequestOp { request: Some(request) };
    let success = |request| TxnRequest {
        success: vec![op(put("w", false)), op(request)],
        ..TxnRequest::default()
    };
    let failure = |request| TxnRequest {
        failure: vec![op(request)],
        ..TxnRequest::default()
    };
    let nested = |txn: TxnRequest| success(Request::RequestTxn(failure(Request::RequestTxn(txn))));
    let permitted = |txn: &TxnRequest| auth.permit_txn(&auth.header_of("ann"), &Leases::default(), txn).is_ok();
    for (request, expected) in [
        (put("w", false), true),
        (put("w", true), false),
        (put("rw", true), true),
        (put("r", false), false),
        (range("r"), true),
        (range("w"), false),
    ] {
        for txn in [
            success(request.clone()),
            failure(request.clone()),
            nested(success(request.clone())),
        ] {
            assert_eq!(permitted(&txn), expected, "{request:?}");
        }
    }
    let compare = |key: &str| TxnRequest {
        compare: vec![crate::proto::etcdserverpb::Compare {
            key: key.to_owned().into(),
            ..Default::default()
        }],
        ..TxnRequest::default()
    };
    assert!(permitted(&compare("r")) && !permitted(&compare("w")) && !permitted(&nested(compare("w"))));
}

#[test]
fn a_token_is_for_users_with_a_password_while_auth_is_on() {
    let no_password = AuthChange::UserAdd(AuthUserAddRequest {
        name: "cert".to_owned(),
        options: Some(UserAddOptions { no_password: true }),
        ..AuthUserAddRequest::default()
    });
    let mut auth = enabled(&[no_password]);
    let ask = |auth: &Auth, name: &str, out: &mut Entered| {
        let request = InternalAuthenticateRequest {
            name: name.to_owned(),
            simple_token: "prefix".to_owned(),
            ..InternalAuthenticateRequest::default()
        };
        auth.authenticate(&request, 17, out)
    };
    let mut out = Entered::default();
    assert_eq!(ask(&auth, "ann", &mut out).as_deref(), Ok("prefix.17"));
    assert_eq!(ask(&auth, "cert", &mut out), Err(Error::AuthFailed));
    assert_eq!(ask(&auth, "bob", &mut out), Err(Error::AuthFailed));
    assert_eq!(auth.password_hash("ann").as_deref(), Ok(&b"#ann"[..]));
    assert_eq!(auth.password_hash("cert"), Err(Error::NoPasswordUser));
    assert_eq!(auth.password_hash("bob"), Err(Error::AuthFailed));
    auth.apply(&change_password("ann", "#new"), &mut out).unwrap();
    auth.apply(&user_delete("ann"), &mut out).unwrap();
    auth.apply(&AuthChange::Disable, &mut out).unwrap();
    let revoked = TokenChange::Revoked { user: "ann".to_owned() };
    let assigned = TokenChange::Assigned {
        token: "prefix.17".to_owned(),
        user: "ann".to_owned(),
    };
    assert_eq!(out.tokens, [assigned, revoked.clone(), revoked, TokenChange::Cleared]);
    assert_eq!(ask(&auth, "root", &mut out), Err(Error::AuthNotEnabled));
    assert_eq!(auth.password_hash("root"), Err(Error::AuthNotEnabled));
}

#[test]
fn rows_are_etcds_and_restore_the_state() {
    let auth = enabled(&[grant("r", Type::Write, "a", "b")]);
    let rows: Vec<(Bucket, Bytes, Bytes)> = auth
        .ops()
        .into_iter()
        .map(|op| (op.bucket, op.key, op.value.unwrap()))
        .collect();
    let row = |bucket, key: &'static [u8], value: &'static [u8]| (bucket, Bytes::from(key), Bytes::from(value));
    let expected = [
        row(Bucket::AuthUsers, b"ann", b"\x0a\x03ann\x12\x04#ann\x1a\x01r\x22\x00"),
        row(
            Bucket::AuthUsers,
            b"root",
            b"\x0a\x04root\x12\x05#root\x1a\x04root\x22\x00",
        ),
        row(Bucket::AuthRoles, b"r", b"\x0a\x01r\x12\x08\x08\x01\x12\x01a\x1a\x01b"),
        row(Bucket::Auth, b"authEnabled", &[1]),
        row(Bucket::Auth, b"authRevision", &[0, 0, 0, 0, 0, 0, 0, 7]),
    ];
    assert_eq!(rows, expected);
    let mut restored = Auth::default();
    for (bucket, key, value) in rows {
        restored.restore(bucket, &key, &value).unwrap();
    }
    assert_eq!(restored.ops(), auth.ops());
    assert!(restored.is_enabled() && restored.revision() == auth.revision());
    assert!(
        Auth::default().ops().is_empty(),
        "a state that never changed has no rows"
    );
    let other = User {
        name: Bytes::from("bob"),
        ..User::default()
    };
    let wrong = restored.restore(Bucket::AuthUsers, b"ann", &other.encode_to_vec().into());
    assert_eq!(wrong, Err("the name within is another".to_owned()));
}

#[test]
fn a_password_is_taken_from_base64_as_go_reads_it() {
    let add = |hashed: &str| {
        let request = AuthUserAddRequest {
            name: "ann".to_owned(),
            hashed_password: hashed.to_owned(),
            ..AuthUserAddRequest::default()
        };
        let mut auth = Auth::default();
        apply(&mut auth, &AuthChange::UserAdd(request)).map(|()| auth.user("ann").unwrap().password.clone())
    };
    assert_eq!(add("YWI=").as_deref(), Ok(&b"ab"[..]));
    assert_eq!(add("YWJ=").as_deref(), Ok(&b"ab"[..]), "bits that no byte needs");
    assert_eq!(add("YW\nI=\r").as_deref(), Ok(&b"ab"[..]));
    assert_eq!(add("").as_deref(), Ok(&b""[..]));
    assert_eq!(add("YWI"), Err(Error::NoPasswordUser), "no padding");
    assert_eq!(add("#"), Err(Error::NoPasswordUser));
}

/// A member with signed tokens proposes no letters. A member with simple tokens must not take the index for a token.
#[test]
fn an_entry_without_letters_gives_no_simple_token() {
    let request = InternalAuthenticateRequest {
        name: "ann".to_owned(),
        ..InternalAuthenticateRequest::default()
    };
    let mut out = Entered::default();
    let token = enabled(&[]).authenticate(&request, 17, &mut out);
    assert_eq!(token.as_deref(), Ok(""));
    assert!(out.tokens.is_empty(), "{out:?}");
}

#[test]
fn a_token_ends_when_it_is_not_used() {
    let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
    let assign = |token: &str, user: &str| TokenChange::Assigned {
        token: token.to_owned(),
        user: user.to_owned(),
    };
    let mut tokens = SimpleTokens::default();
    tokens.set_ttl(Duration::from_secs(10));
    tokens.change(at(0), assign("a.1", "ann"));
    tokens.change(at(0), assign("b.2", "bob"));
    assert_eq!(tokens.user(at(9), "a.1"), Some("ann"));
    assert_eq!(tokens.user(at(18), "a.1"), Some("ann"), "it was used");
    assert_eq!(tokens.user(at(18), "b.2"), None, "it was not");
    tokens.change(at(19), assign("c.3", "ann"));
    assert_eq!(tokens.len(), 2, "an ended token is forgotten");
    tokens.change(at(19), TokenChange::Revoked { user: "ann".to_owned() });
    assert!(tokens.is_empty());
    tokens.change(at(19), assign("d.4", "ann"));
    tokens.change(at(19), TokenChange::Cleared);
    assert_eq!(tokens.user(at(19), "d.4"), None);
}

#[test]
fn the_number_of_tokens_is_bounded_and_the_unused_ones_end_first() {
    let at = Instant::from_nanos;
    let mut tokens = SimpleTokens::default();
    for number in 0..=MAX_SIMPLE_TOKENS as u64 {
        let token = format!("t.{number}");
        let user = "ann".to_owned();
        tokens.change(at(number), TokenChange::Assigned { token, user });
        assert_eq!(tokens.user(at(number), "t.0"), Some("ann"), "it is in use");
    }
    assert!(tokens.len() <= MAX_SIMPLE_TOKENS, "{}", tokens.len());
    assert_eq!(tokens.user(at(0), "t.1"), None);
    assert!(tokens.user(at(0), &format!("t.{MAX_SIMPLE_TOKENS}")).is_some());
}

#[test]
fn the_index_of_a_token_is_after_its_dot() {
    for (token, expected) in [
        ("abc.17", Some(17)),
        (".0", Some(0)),
        ("abc", None),
        ("a.b.1", None),
        ("a.+1", None),
        ("a.", None),
        ("a.99999999999999999999", None),
    ] {
        assert_eq!(token_index(token), expected, "{token}");
    }
}

#[test]
fn a_remembered_password_fits_its_hash_only_and_the_oldest_is_forgotten() {
    let mut known = KnownPasswords::new([7; 32]);
    known.remember("secret", b"$hash");
    known.remember("secret", b"$hash");
    assert!(known.fits("secret", b"$hash"));
    assert!(!known.fits("secret", b"$other") && !known.fits("Secret", b"$hash"));
    assert!(!KnownPasswords::new([8; 32]).fits("secret", b"$hash"));
    for number in 0..REMEMBERED_PASSWORDS {
        known.remember(&number.to_string(), b"$hash");
    }
    assert!(!known.fits("secret", b"$hash") && known.fits("0", b"$hash"));
}
