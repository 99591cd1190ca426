//! Real etcd clients and a real etcd beside ours.
