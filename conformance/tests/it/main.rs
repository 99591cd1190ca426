//! The suites that start servers, each a module. They are one program: one link, and while a test waits for a server,
//! a test of another suite runs.

mod acceptance;
mod auth;
mod churn;
mod cli;
mod client;
mod clients;
mod cluster;
mod common;
mod config;
mod databases;
mod descriptors;
mod diff;
mod diff_faults;
mod diff_scripts;
mod etcd_directories;
mod etcdctl;
mod flags;
mod gateway;
mod hashkv;
mod histories;
mod kill;
mod logs;
mod members;
mod metrics;
mod outside;
mod pings;
mod prometheus;
mod recorded;
mod services;
mod snapshots;
mod sockets;
mod sweep;
mod tls;
mod websocket;
