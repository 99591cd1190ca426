//! A Quoin server inside a tokio program, on the program's own runtime:
//! `cargo run -p quoin-runtime-tokio --example embed_tokio`.

use std::error::Error;

use etcd_client::Client;
use quoin_runtime_tokio::{Server, TokioRuntime};
use tokio::runtime::{Builder, Handle};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().to_str().ok_or("the path is not UTF-8")?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(embed(data_dir))
}

async fn embed(data_dir: &str) -> Result<(), Box<dyn Error>> {
    // Port 0 is any free port of 127.0.0.1; the endpoint has the bound one.
    let runtime = TokioRuntime::on(Handle::current());
    let server = Server::builder(data_dir).port(0).start(runtime).await?;
    println!("serving at {}", server.endpoint());

    let mut client = Client::connect([server.endpoint()], None).await?;
    client.put("greeting", "hello", None).await?;
    let found = client.get("greeting", None).await?;
    let value = found.kvs().first().ok_or("the put key is not there")?;
    println!("{} = {}", value.key_str()?, value.value_str()?);

    // Dropping the server would end it, too, but would cut calls in progress.
    server.stop().await;
    Ok(())
}
