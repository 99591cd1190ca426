//! rust-protobuf's `Message` trait on top of prost, as far as the `raft` crate uses it.
//!
//! `raft` sizes, writes and merges messages through that trait, whatever codec it was built with.

use std::any::Any;

use protobuf::error::WireError;
use protobuf::reflect::MessageDescriptor;
use protobuf::{Clear, CodedInputStream, CodedOutputStream, Message, ProtobufError, ProtobufResult, UnknownFields};

use crate::eraftpb;

macro_rules! protobuf_message {
    ($($name:ident)*) => {$(
        impl Clear for eraftpb::$name {
            fn clear(&mut self) {
                prost::Message::clear(self);
            }
        }

        impl Message for eraftpb::$name {
            fn descriptor(&self) -> &'static MessageDescriptor {
                // Panics with protobuf's own message: there is no reflection without generated code.
                Self::descriptor_static()
            }

            fn is_initialized(&self) -> bool {
                true
            }

            fn merge_from(&mut self, input: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
                let mut bytes = Vec::new();
                while !input.eof()? {
                    bytes.push(input.read_raw_byte()?);
                }
                self.merge_from_bytes(&bytes)
            }

            fn merge_from_bytes(&mut self, bytes: &[u8]) -> ProtobufResult<()> {
                prost::Message::merge(self, bytes).map_err(|_| ProtobufError::WireError(WireError::Other))
            }

            fn write_to_with_cached_sizes(&self, output: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
                output.write_raw_bytes(&prost::Message::encode_to_vec(self))
            }

            fn write_to_bytes(&self) -> ProtobufResult<Vec<u8>> {
                Ok(prost::Message::encode_to_vec(self))
            }

            fn compute_size(&self) -> u32 {
                u32::try_from(prost::Message::encoded_len(self)).unwrap_or(u32::MAX)
            }

            fn get_cached_size(&self) -> u32 {
                self.compute_size()
            }

            fn get_unknown_fields(&self) -> &UnknownFields {
                static NONE: std::sync::OnceLock<UnknownFields> = std::sync::OnceLock::new();
                NONE.get_or_init(UnknownFields::new)
            }

            fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
                panic!("raft messages keep no unknown fields")
            }

            fn as_any(&self) -> &dyn Any {
                self
            }

            fn new() -> Self {
                Self::default()
            }

            fn default_instance() -> &'static Self {
                Self::default_ref()
            }
        }
    )*};
}

protobuf_message! {
    ConfChange ConfChangeSingle ConfChangeV2 ConfState Entry HardState Message Snapshot SnapshotMetadata
}
