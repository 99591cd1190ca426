//! A program outside the workspace embeds a server with README's lines for its `Cargo.toml`, without `protoc`.

use std::fs;
use std::path::Path;
use std::process::Command;

use quoin_conformance::paths;

/// The rest of the program, besides README's lines.
const PACKAGE: &str = r#"[package]
name = "outside"
version = "0.1.0"
edition = "2024"

[workspace]

"#;

/// A program that uses its member over the port, like any client.
const PROGRAM: &str = r#"
use std::io::{Read, Write};
use std::net::TcpStream;

use quoin_runtime_tokio::{Server, TokioRuntime};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::args().nth(1).ok_or("name a directory")?;
    let server = Server::builder(&data).port(0).start(TokioRuntime::on(tokio::runtime::Handle::current())).await?;
    let address = server.endpoint().replace("http://", "");
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    println!("{answer}");
    server.stop().await;
    Ok(())
}
"#;

/// The lines of README's block that begins with `[dependencies]`, with the path of this tree.
fn readmes_lines(root: &Path) -> String {
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let block = readme
        .split("```toml\n")
        .find(|block| block.starts_with("[dependencies]\nquoin-runtime-tokio"))
        .and_then(|block| block.split("```").next())
        .expect("README names the lines for a program outside this tree");
    let tree = root.to_str().expect("the path is UTF-8");
    // The program chooses its own executor, with a line of its own.
    let tokio = "[dependencies]\ntokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }";
    block.replace("../quoin", tree).replace("[dependencies]", tokio)
}

#[test]
#[ignore = "compiles the server's dependencies once more"]
fn a_program_outside_the_workspace_embeds_a_server_with_readmes_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let folder = paths::target().join("outside");
    fs::create_dir_all(folder.join("src")).expect("the target folder is writable");
    fs::write(folder.join("Cargo.toml"), format!("{PACKAGE}{}", readmes_lines(root))).expect("written");
    fs::write(folder.join("src/main.rs"), PROGRAM).expect("written");
    // The same versions as in this tree.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
    let data = tempfile::tempdir().expect("a folder");
    let run = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--"])
        .arg(data.path())
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("PROTOC", folder.join("there-is-no-protoc"))
        .output()
        .expect("cargo runs");
    let (out, errors) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{errors}");
    assert!(out.contains(r#"{"health":"true","reason":""}"#), "{out}\n{errors}");
}
