//! Small stories, each from a rule of etcd.
