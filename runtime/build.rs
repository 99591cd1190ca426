//! Tells the program how it was built, for `--version`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=QUOIN_GIT_SHA");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let toolchain = first_line(Command::new(rustc).arg("--version")).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=QUOIN_TOOLCHAIN={toolchain}");
    let sha = std::env::var_os("QUOIN_GIT_SHA").and_then(|sha| sha.into_string().ok());
    let sha = sha.or_else(|| first_line(Command::new("git").args(["rev-parse", "--short=9", "HEAD"])));
    println!(
        "cargo::rustc-env=QUOIN_GIT_SHA={}",
        sha.as_deref().unwrap_or("not known (not built in a git tree)")
    );
}

/// The first line a command prints, if it succeeds.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(str::to_owned)
}
