//! The server on async-std's executor.

use std::process::ExitCode;

use quoin_runtime_smol::AsyncStdRuntime;

fn main() -> ExitCode {
    quoin_runtime::process::main(std::env::args_os(), std::env::vars_os(), AsyncStdRuntime::host)
}
