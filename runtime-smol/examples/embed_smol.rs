//! A Quoin server inside a smol program, on the program's own executor, at a Unix socket:
//! `cargo run -p quoin-runtime-smol --example embed_smol`.

use std::error::Error;
use std::sync::Arc;

use quoin_runtime_smol::{Server, SmolRuntime};
use smol::Executor;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::net::unix::UnixStream;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let executor = Arc::new(Executor::new());
    let folder = folder.path().to_str().ok_or("the path is not UTF-8")?;
    smol::block_on(executor.run(embed(Arc::clone(&executor), folder)))
}

async fn embed(executor: Arc<Executor<'static>>, folder: &str) -> Result<(), Box<dyn Error>> {
    let socket = format!("{folder}/socket");
    let server = Server::builder(format!("{folder}/data"))
        .socket(&socket)
        .start(SmolRuntime::on(executor))
        .await?;
    println!("serving at {}", server.endpoint());

    let mut connection = UnixStream::connect(&socket).await?;
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    println!("{answer}");
    if !answer.contains(r#""health":"true""#) {
        return Err("the server is not healthy".into());
    }

    // Dropping the server would end it, too, but would cut calls in progress.
    server.stop().await;
    Ok(())
}
