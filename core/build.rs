//! Compiles `proto/*.proto` to messages, without protoc and without service code.

use std::path::PathBuf;

use prost_build::Config;

/// The files; `runtime` compiles the services of the same ones.
const FILES: [&str; 11] = [
    "auth.proto",
    "election.proto",
    "health.proto",
    "kv.proto",
    "lease.proto",
    "lock.proto",
    "membership.proto",
    "raft_internal.proto",
    "rpc.proto",
    "snap.proto",
    "wal.proto",
];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo::rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"]).expect("the proto folder is there");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES).expect("the .proto files are valid");
    std::fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set()).expect("OUT_DIR can be written");

    let mut files = compiler.file_descriptor_set();
    for message in files.file.iter_mut().flat_map(|file| &mut file.message_type) {
        for field in &mut message.field {
            // Left alone, `peerURLs` would become `peer_ur_ls` in Rust. The descriptor keeps the true name.
            if let Some(stem) = field.name().strip_suffix("URLs") {
                field.name = Some(format!("{stem}_urls"));
            }
        }
    }
    Config::new()
        .bytes(["."])
        .btree_map(["."])
        .extern_path(".raftpb", "crate::proto::raftpb")
        .out_dir(out)
        .compile_fds(files)
        .expect("valid descriptors become code");
}
