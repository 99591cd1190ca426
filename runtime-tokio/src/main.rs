//! The server on tokio.

use std::process::ExitCode;

use quoin_runtime_tokio::TokioRuntime;

fn main() -> ExitCode {
    quoin_runtime::process::main(std::env::args_os(), std::env::vars_os(), TokioRuntime::host)
}
