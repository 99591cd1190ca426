//! The server on tokio.

use std::process::ExitCode;

use quoin_runtime_tokio::TokioRuntime;

fn main() -> ExitCode {
    quoin_runtime::process::main(std::env::args().skip(1), std::env::vars(), TokioRuntime::host)
}
