//! What is made of header blocks.

use super::*;

/// A header that is spelled out and put into the table.
fn kept(name: &str, value: &str) -> Vec<u8> {
    spelled(0x40, name, value.as_bytes())
}

fn rewritten(blocks: &mut Blocks, block: &[u8]) -> Vec<u8> {
    blocks.rewrite(block).unwrap().unwrap_or_else(|| block.to_vec())
}

/// `:method: POST`, `:scheme: http`, `:path: /`.
const REQUEST: [u8; 3] = [0x83, 0x86, 0x84];

#[test]
fn a_valid_request_is_not_changed() {
    let mut blocks = Blocks::new();
    let mut block = REQUEST.to_vec();
    block.extend(kept(":authority", "127.0.0.1:2379"));
    block.extend(kept("te", "trailers"));
    block.extend(kept("content-type", "application/grpc"));
    assert!(blocks.rewrite(&block).unwrap().is_none());
    // The same again by reference, the newest first.
    assert!(blocks.rewrite(&[0x83, 0x86, 0x84, 0xc0, 0xbf, 0xbe]).unwrap().is_none());
    assert!(
        blocks.rewrite(&[0x83, 0x86, 0x84, 0xc1]).is_err(),
        "there is no fourth entry"
    );
}

#[test]
fn an_invalid_value_is_replaced_by_one_of_equal_length() {
    let table = [
        (kept(":authority", "#a=[b]"), kept(":authority", "-a--b-")),
        (kept(":authority", "/tmp/a.sock"), kept(":authority", "-tmp-a-sock")),
        (kept(":path", "a b/c"), kept(":path", "/-b/c")),
        (kept("te", "gzip"), kept("xe", "gzip")),
        (kept("keep-alive", "5"), kept("xeep-alive", "5")),
        (vec![0x81], vec![0x01, 0x01, b'-']),
        // Names of the static table: 0x41 is its first, 0x0f 0x2a its fifty-seventh.
        (vec![0x41, 0x01, b'#'], kept(":authority", "-")),
        (vec![0x0f, 0x2a, 0x01, b'x'], spelled(0, "xransfer-encoding", b"x")),
        // A value in Huffman's code: `a b`.
        (vec![0x41, 0x83, 0x1a, 0x91, 0xff], kept(":authority", "a-b")),
    ];
    for (header, expected) in table {
        let block = [&REQUEST[..], &header].concat();
        let found = rewritten(&mut Blocks::new(), &block);
        assert_eq!(found, [&REQUEST[..], &expected].concat(), "{header:02x?}");
    }
}

#[test]
fn a_remembered_path_is_treated_as_before() {
    let path = |value: &str| [&[0x83, 0x86][..], &spelled(0, ":path", value.as_bytes())].concat();
    let mut blocks = Blocks::new();
    for round in 0..3 {
        for number in 0..GOOD_PATHS + 1 {
            let good = path(&format!("/etcdserverpb.KV/{number}"));
            assert!(blocks.rewrite(&good).unwrap().is_none(), "{round} {number}");
            assert_eq!(rewritten(&mut blocks, &path("a b")), path("/-b"), "{round} {number}");
        }
    }
    let long = path(&format!("/{}", "p".repeat(GOOD_PATH_BYTES)));
    assert!(blocks.rewrite(&long).unwrap().is_none());
    let remembered = blocks.good_paths.iter().map(|path| path.len()).max();
    assert!(remembered <= Some(GOOD_PATH_BYTES));
    // The name, not the value, makes it a path.
    assert!(blocks.rewrite(&path("/a")).unwrap().is_none());
    let scheme = [&[0x83][..], &spelled(0, ":scheme", b"/a")].concat();
    assert_eq!(
        rewritten(&mut blocks, &scheme),
        [&[0x83][..], &spelled(0, ":scheme", b"-a")].concat()
    );
}

#[test]
fn a_scheme_is_added_after_updates_of_the_table() {
    let block = [0x20, 0x3f, 0xe1, 0x1f, 0x83, 0x84];
    let expected = [0x20, 0x3f, 0xe1, 0x1f, SCHEME_HTTP, 0x83, 0x84];
    assert_eq!(rewritten(&mut Blocks::new(), &block), expected);
    let authority = kept(":authority", "#");
    let changed = rewritten(&mut Blocks::new(), &[&block[..], &authority].concat());
    assert_eq!(changed, [&expected[..], &kept(":authority", "-")].concat());
    let trailers = kept("x-trailer", "y");
    assert!(
        Blocks::new().rewrite(&trailers).unwrap().is_none(),
        "trailers have no scheme"
    );
}

#[test]
fn the_table_evicts_as_the_standard_says() {
    let mut blocks = Blocks::new();
    let long = "v".repeat(2_000);
    for name in ["a", "b", "c"] {
        blocks.rewrite(&kept(name, &long)).unwrap();
    }
    assert_eq!((blocks.table.len(), blocks.bytes), (2, 2 * 2_033));
    blocks.rewrite(&kept("d", &"v".repeat(5_000))).unwrap();
    assert_eq!(
        (blocks.table.len(), blocks.bytes),
        (0, 0),
        "an entry larger than the table empties it"
    );
    blocks.rewrite(&kept("e", "")).unwrap();
    blocks.rewrite(&[0x20]).unwrap();
    assert!(blocks.table.is_empty(), "a table of no size has no entries");
    assert!(
        blocks.rewrite(&[0x3f, 0xe2, 0x1f]).is_err(),
        "4097 bytes were not allowed"
    );
}

#[test]
fn a_truncated_block_is_unreadable() {
    let block = [&REQUEST[..], &kept(":authority", "#"), &[0x7f, 0x80, 0x01]].concat();
    for end in REQUEST.len() + 1..block.len() {
        if end != REQUEST.len() + kept(":authority", "#").len() {
            assert!(Blocks::new().rewrite(&block[..end]).is_err(), "{end}");
        }
    }
    for number in [[0xff, 0xff, 0xff, 0xff].as_slice(), &[0x80], &[0xff]] {
        assert!(Blocks::new().rewrite(number).is_err());
    }
}
