//! `mutants`: whether the checkers find bugs that are put in on purpose.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use quoin_core::mutant::{self, Mutant};
use quoin_tools::{Progress, note, say};

use crate::cluster::hunt::{hunt, kept};

/// What `mutants` is asked for.
#[derive(Args, Clone, Debug)]
pub struct Mutants {
    /// Only this bug
    #[arg(long, value_name = "NAME", value_parser = names())]
    pub only: Option<Mutant>,
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

/// A bug by its name; help describes each.
pub(super) fn names() -> impl TypedValueParser<Value = Mutant> {
    let all = Mutant::ALL.iter();
    let values = all.map(|mutant| PossibleValue::new(mutant.name()).help(mutant.words()));
    PossibleValuesParser::new(values).map(|name| {
        let named = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
        *named.expect("only names of the list are possible")
    })
}

/// Puts a bug in, if there is to be one.
pub(super) fn put_in(mutant: Option<Mutant>) -> Result<(), String> {
    if let Some(mutant) = mutant
        && !mutant::AVAILABLE
    {
        let name = mutant.name();
        return Err(format!("this build has no {name} in it: it needs --features mutants"));
    }
    mutant::choose(mutant);
    Ok(())
}

/// `mutants`: whether each bug that was put in on purpose is found, and by which seed and checker.
#[must_use]
pub fn mutants(asked: &Mutants) -> ExitCode {
    if !mutant::AVAILABLE {
        return build_with_bugs();
    }
    // An assertion may catch a mutant: its panic is not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let limit = Duration::from_secs(asked.seconds);
    let seeds_kept = kept();
    let wanted = |mutant: Mutant| {
        let is_kept = seeds_kept.iter().any(|(kept, _)| *kept == mutant);
        asked.only.is_none_or(|only| only == mutant) && (!asked.kept || is_kept)
    };
    let all: Vec<Mutant> = Mutant::ALL.iter().copied().filter(|mutant| wanted(*mutant)).collect();
    let mut caught = 0;
    say("mutant                   checker  seed             runs  CPU-seconds  what it does wrong");
    let progress = Progress::counted("mutants", all.len() as u64);
    for &mutant in &all {
        progress.doing(mutant.name());
        let of_it = seeds_kept.iter().filter(|(kept, _)| *kept == mutant);
        let first: Vec<u64> = of_it.map(|(_, seed)| *seed).filter(|_| !asked.fresh).collect();
        let found = hunt(mutant, first.into_iter().chain(asked.from..), limit, super::cpu_time);
        let (seed, checker) = found.caught.map_or_else(
            || (String::from("-"), "NONE"),
            |(seed, checker)| (seed.to_string(), checker),
        );
        progress.done();
        say(format_args!(
            "{:23}  {checker:7}  {seed:15}  {:4}  {:11.1}  {} ({})",
            mutant.name(),
            found.runs,
            found.cpu.as_secs_f64(),
            mutant.words(),
            mutant.origin(),
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

/// Has a release build made that contains the bugs, and gives it the same arguments.
fn build_with_bugs() -> ExitCode {
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
