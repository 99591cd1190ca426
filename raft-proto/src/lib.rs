//! raft-proto's public API on prost 0.14, with etcd's numbers and without protoc.
