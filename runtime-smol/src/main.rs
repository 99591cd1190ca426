//! The server on smol.

use std::process::ExitCode;

use quoin_runtime_smol::SmolRuntime;

fn main() -> ExitCode {
    quoin_runtime::process::main(std::env::args_os(), std::env::vars_os(), SmolRuntime::host)
}
