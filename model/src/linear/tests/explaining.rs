//! The explanation of a violation.

use super::store::{get, put};
use super::stories::{answered, read, set, unanswered, violation};
use crate::linear::explain;
use crate::linear::kv::{Kv, Request};

#[test]
fn an_explanation_names_the_operation_the_state_and_the_reason() {
    let history = [
        answered(1, 10, 20, Request::One(put("a", "1")), set(2)),
        unanswered(2, 15, Request::One(put("b", "2"))),
        answered(3, 30, 40, Request::One(get("a")), read(2, "a", "7", 2)),
    ];
    let text = explain(&Kv, &history, &violation(&history));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        "no order of 3 operations: after 1 of them, no next operation fits"
    );
    assert!(lines[1].starts_with("  #0 client 1 [10, 20] One(Put {"), "{text}");
    assert!(lines[2].starts_with("state: Store { revision: 2"), "{text}");
    assert_eq!(lines[3], "none of these can come next:");
    assert!(lines[4].starts_with("  #2 client 3 [30, 40] One(Range {"), "{text}");
    assert!(lines[4].ends_with(": not possible in this state"), "{text}");
    assert_eq!(
        lines[5],
        "  #1 client 2 [15, ?] One(Put { key: b\"b\", value: b\"2\" }) -> unknown: may have happened, but that does not help"
    );
}
