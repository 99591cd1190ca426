//! `mutants`: whether the checkers find bugs that are put in on purpose.

use std::process::ExitCode;

use clap::Args;

/// What `mutants` is asked for.
#[derive(Args, Clone, Debug)]
pub struct Mutants {
    /// Only the bug with this number
    #[arg(long, value_name = "M")]
    pub only: Option<u8>,
    /// The first seed after the kept ones
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub from: u64,
    /// Does not try the seeds first that are kept because they found a bug before
    #[arg(long, conflicts_with = "kept")]
    pub fresh: bool,
    /// Only bugs for which a seed is kept
    #[arg(long)]
    pub kept: bool,
    /// CPU time for each bug
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub seconds: u64,
}

/// Puts the bug with this number in, if there is to be one.
pub(super) fn put_in(number: Option<u8>) -> Result<(), String> {
    let Some(number) = number else { return Ok(()) };
    known(number)?;
    choose(number)
}

/// That there is a bug with this number.
fn known(number: u8) -> Result<(), String> {
    let numbers = quoin_core::mutant::ALL.iter().map(|mutant| mutant.number);
    if numbers.clone().any(|known| known == number) {
        return Ok(());
    }
    let all: Vec<String> = numbers.map(|number| number.to_string()).collect();
    Err(format!("there is no mutant {number}; there are {}", all.join(", ")))
}

#[cfg(feature = "mutants")]
fn choose(number: u8) -> Result<(), String> {
    quoin_core::mutant::choose(number);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose(number: u8) -> Result<(), String> {
    Err(format!(
        "this build has no mutant {number} in it: it needs --features mutants"
    ))
}

/// `mutants`: whether each bug that was put in on purpose is found, and by which seed and checker.
#[must_use]
#[cfg(feature = "mutants")]
pub fn mutants(asked: &Mutants) -> ExitCode {
    use std::time::Duration;

    use quoin_tools::{Progress, say};

    use crate::cluster::hunt::{hunt, kept};

    if let Some(Err(words)) = asked.only.map(known) {
        return super::refused(&words);
    }
    // What is caught by an assertion is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let limit = Duration::from_secs(asked.seconds);
    let seeds_kept = kept();
    let wanted = |number: u8| {
        let is_kept = seeds_kept.iter().any(|(kept, _)| *kept == number);
        asked.only.is_none_or(|only| only == number) && (!asked.kept || is_kept)
    };
    let all: Vec<_> = quoin_core::mutant::ALL
        .iter()
        .filter(|mutant| wanted(mutant.number))
        .collect();
    let mut caught = 0;
    say("mutant  checker  seed      runs  CPU-seconds  what it does wrong");
    let progress = Progress::counted("mutants", all.len() as u64);
    for mutant in &all {
        progress.doing(format!("M{:02}", mutant.number));
        let of_it = seeds_kept.iter().filter(|(number, _)| *number == mutant.number);
        let first: Vec<u64> = of_it.map(|(_, seed)| *seed).filter(|_| !asked.fresh).collect();
        let found = hunt(**mutant, first.into_iter().chain(asked.from..), limit, super::cpu_time);
        let (seed, checker) = found.caught.map_or_else(
            || (String::from("-"), "NONE"),
            |(seed, checker)| (seed.to_string(), checker),
        );
        progress.done();
        say(format_args!(
            "M{:02}     {checker:7}  {seed:8}  {:4}  {:11.1}  {} ({})",
            mutant.number,
            found.runs,
            found.cpu.as_secs_f64(),
            mutant.words,
            mutant.origin,
        ));
        caught += usize::from(found.caught.is_some());
    }
    drop(progress);
    say(format_args!("{caught} of {} mutants caught", all.len()));
    if caught == all.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `mutants`: this build has none in it, so it has one made that does.
#[must_use]
#[cfg(not(feature = "mutants"))]
pub fn mutants(asked: &Mutants) -> ExitCode {
    use quoin_tools::note;

    if let Some(Err(words)) = asked.only.map(known) {
        return super::refused(&words);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = [
        "run",
        "--release",
        "-p",
        env!("CARGO_PKG_NAME"),
        "--features",
        "mutants",
        "--",
        "mutants",
    ];
    note("this build has no bugs in it: building one that has (release, feature `mutants`)");
    let asked = std::env::args_os().skip_while(|word| word != "mutants").skip(1);
    match std::process::Command::new(cargo).args(build).args(asked).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            note(format_args!("cargo does not start: {error}"));
            ExitCode::FAILURE
        }
    }
}
