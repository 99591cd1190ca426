//! Protobuf without fields that are zero or empty.

/// The messages of raft that have others in them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    ConfState,
    Entry,
    Message,
    Metadata,
    Snapshot,
}

impl Shape {
    /// The message in a field, if there is one.
    fn within(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Message, 7) => Some(Self::Entry),
            (Self::Message, 9) => Some(Self::Snapshot),
            (Self::Snapshot, 2) => Some(Self::Metadata),
            (Self::Metadata, 1) => Some(Self::ConfState),
            _ => None,
        }
    }
}

/// The same message without fields that are zero or empty. An entry stays, also if all its fields are zero: it is an
/// element of a list.
pub(crate) fn without_zeros(mut bytes: &[u8], shape: Shape) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let whole = bytes;
        let key = varint(&mut bytes);
        let head = &whole[..whole.len() - bytes.len()];
        match key & 7 {
            0 => {
                if varint(&mut bytes) != 0 {
                    out.extend_from_slice(&whole[..whole.len() - bytes.len()]);
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                let within = shape.within(key >> 3);
                let value = within.map_or_else(|| value.to_vec(), |shape| without_zeros(value, shape));
                if !value.is_empty() || matches!(within, Some(Shape::Entry)) {
                    out.extend_from_slice(head);
                    push_varint(value.len() as u64, &mut out);
                    out.extend(value);
                }
            }
            other => panic!("raft's messages have no field of wire type {other}"),
        }
    }
    out
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            break;
        }
    }
    number
}

fn push_varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

#[test]
fn zeros_and_empty_messages_are_left_out() {
    // A heartbeat as etcd 3.5 writes it: every number, also 0, and an empty snapshot.
    let heartbeat = [
        0x08, 8, 0x10, 2, 0x18, 1, 0x20, 0xac, 2, 0x28, 0, 0x30, 0, 0x40, 5, 0x4a, 8, 0x12, 6, 0x0a, 2, 0x28, 0, 0x10,
        0, 0x50, 0, 0x58, 0,
    ];
    let expected = [0x08, 8, 0x10, 2, 0x18, 1, 0x20, 0xac, 2, 0x40, 5];
    assert_eq!(without_zeros(&heartbeat, Shape::Message), expected);
    let of_an_empty_entry = [0x3a, 6, 0x08, 0, 0x10, 0, 0x18, 0];
    assert_eq!(without_zeros(&of_an_empty_entry, Shape::Message), [0x3a, 0]);
}
