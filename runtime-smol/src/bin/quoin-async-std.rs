//! The server on async-std's executor.

use std::process::ExitCode;

use quoin_runtime_smol::AsyncStdRuntime;

fn main() -> ExitCode {
    quoin_runtime::process::main(std::env::args().skip(1), std::env::vars(), AsyncStdRuntime::host)
}
