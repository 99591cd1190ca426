//! Puts, gets and deletes with every option.

use etcd_client::{DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, SortOrder, SortTarget};

use super::tale::Tale;

/// The answer to a put, and its effect on key, lease and value.
pub(crate) async fn puts(tale: &mut Tale) {
    let mut client = tale.client();
    let options = PutOptions::new;
    tale.tell("put a=1", client.put("a", "1", None).await);
    tale.tell(
        "put a=2, previous wanted",
        client.put("a", "2", Some(options().with_prev_key())).await,
    );
    tale.tell(
        "put new=1, previous wanted",
        client.put("new", "1", Some(options().with_prev_key())).await,
    );
    tale.tell("put empty=", client.put("empty", "", None).await);
    tale.tell(
        "put of arbitrary bytes",
        client.put([0, 255, 10], [0, 159, 146, 150], None).await,
    );
    tale.tell(
        "get them",
        client.get([0], Some(GetOptions::new().with_all_keys())).await,
    );

    tale.tell(
        "grant lease 7",
        client.lease_grant(100, Some(LeaseGrantOptions::new().with_id(7))).await,
    );
    tale.tell(
        "put a=3 with the lease",
        client.put("a", "3", Some(options().with_lease(7))).await,
    );
    let keep_value = options().with_ignore_value().with_prev_key();
    tale.tell(
        "put a, value kept, lease dropped",
        client.put("a", "", Some(keep_value)).await,
    );
    tale.tell("get a", client.get("a", None).await);
    tale.tell(
        "put a=4 with the lease",
        client.put("a", "4", Some(options().with_lease(7))).await,
    );
    tale.tell(
        "put a=5, lease kept",
        client.put("a", "5", Some(options().with_ignore_lease())).await,
    );
    let keep_both = options().with_ignore_value().with_ignore_lease();
    tale.tell("put a, both kept", client.put("a", "", Some(keep_both)).await);
    tale.tell("get a", client.get("a", None).await);

    tale.tell(
        "value kept and given",
        client.put("a", "x", Some(options().with_ignore_value())).await,
    );
    let lease_twice = options().with_lease(7).with_ignore_lease();
    tale.tell("lease kept and given", client.put("a", "x", Some(lease_twice)).await);
    tale.tell(
        "value of nothing kept",
        client.put("none", "", Some(options().with_ignore_value())).await,
    );
    tale.tell(
        "lease of nothing kept",
        client.put("none", "x", Some(options().with_ignore_lease())).await,
    );
    tale.tell(
        "unknown lease",
        client.put("a", "x", Some(options().with_lease(8))).await,
    );
    tale.tell("get a", client.get("a", None).await);
}

/// The answer to a range with every option.
pub(crate) async fn gets(tale: &mut Tale) {
    let mut client = tale.client();
    for (key, value) in [
        ("k/a", "30"),
        ("k/c", "10"),
        ("k/b", "20"),
        ("k/c", "11"),
        ("k/a", "31"),
        ("k/d", "40"),
    ] {
        tale.tell(&format!("put {key}={value}"), client.put(key, value, None).await);
    }
    let all = || GetOptions::new().with_prefix();
    for (what, key, options) in [
        ("one key", "k/a", GetOptions::new()),
        ("no such key", "none", GetOptions::new()),
        ("prefix", "k/", all()),
        ("serializable", "k/", all().with_serializable()),
        ("range [b, d)", "k/b", GetOptions::new().with_range("k/d")),
        ("from key b", "k/b", GetOptions::new().with_from_key()),
        (
            "range that ends before it begins",
            "k/d",
            GetOptions::new().with_range("k/a"),
        ),
        (
            "range that ends where it begins",
            "k/a",
            GetOptions::new().with_range("k/a"),
        ),
        ("limit 2", "k/", all().with_limit(2)),
        ("limit 4, which is all", "k/", all().with_limit(4)),
        ("limit 9", "k/", all().with_limit(9)),
        ("negative limit", "k/", all().with_limit(-1)),
        ("keys only", "k/", all().with_keys_only()),
        ("count only", "k/", all().with_count_only()),
        ("count only, limit 2", "k/", all().with_count_only().with_limit(2)),
        ("revision 4", "k/", all().with_revision(4)),
        ("revision 1", "k/", all().with_revision(1)),
        ("negative revision", "k/a", GetOptions::new().with_revision(-5)),
        ("changed at 5 or later", "k/", all().with_min_mod_revision(5)),
        ("changed at 5 or earlier", "k/", all().with_max_mod_revision(5)),
        ("created at 3 or later", "k/", all().with_min_create_revision(3)),
        ("created at 3 or earlier", "k/", all().with_max_create_revision(3)),
        (
            "changed at 4 to 6, limit 1",
            "k/",
            all().with_min_mod_revision(4).with_max_mod_revision(6).with_limit(1),
        ),
        (
            "changed at 5 or later, count only",
            "k/",
            all().with_min_mod_revision(5).with_count_only(),
        ),
    ] {
        tale.tell(what, client.get(key, Some(options)).await);
    }
    for (target, name) in [
        (SortTarget::Key, "key"),
        (SortTarget::Create, "creation"),
        (SortTarget::Mod, "change"),
        (SortTarget::Value, "value"),
    ] {
        for (order, direction) in [(SortOrder::Ascend, "ascending"), (SortOrder::Descend, "descending")] {
            let sorted = all().with_sort(target, order);
            tale.tell(
                &format!("by {name}, {direction}"),
                client.get("k/", Some(sorted.clone())).await,
            );
            let first = sorted.with_limit(1).with_keys_only();
            tale.tell(
                &format!("by {name}, {direction}, the first key"),
                client.get("k/", Some(first)).await,
            );
        }
    }
    let unordered = all().with_sort(SortTarget::Mod, SortOrder::None);
    tale.tell("by change, no order given", client.get("k/", Some(unordered)).await);
    let past = all().with_sort(SortTarget::Value, SortOrder::Descend).with_revision(4);
    tale.tell(
        "by value, descending, at revision 4",
        client.get("k/", Some(past)).await,
    );
}

/// The answer to a delete, and its effect.
pub(crate) async fn deletes(tale: &mut Tale) {
    let mut client = tale.client();
    for key in ["a", "b", "c", "d/1", "d/2", "e"] {
        tale.tell(&format!("put {key}"), client.put(key, key.to_uppercase(), None).await);
    }
    let options = DeleteOptions::new;
    tale.tell("delete a", client.delete("a", None).await);
    tale.tell("delete a again", client.delete("a", None).await);
    tale.tell(
        "delete b, previous wanted",
        client.delete("b", Some(options().with_prev_key())).await,
    );
    let prefix = options().with_prefix().with_prev_key();
    tale.tell(
        "delete d/ as prefix, previous wanted",
        client.delete("d/", Some(prefix)).await,
    );
    tale.tell(
        "delete [e, c)",
        client.delete("e", Some(options().with_range("c"))).await,
    );
    tale.tell("put a", client.put("a", "back", None).await);
    tale.tell("a begins anew", client.get("a", None).await);
    tale.tell(
        "delete everything",
        client.delete("", Some(options().with_all_keys().with_prev_key())).await,
    );
    let all = || GetOptions::new().with_all_keys();
    tale.tell("nothing is left", client.get("", Some(all())).await);
    tale.tell(
        "at revision 7 all were there",
        client.get("", Some(all().with_revision(7))).await,
    );
    tale.tell(
        "at revision 10 two were",
        client.get("", Some(all().with_revision(10))).await,
    );
}
