//! Damage to every kind of file of a member: cut, zeroed, deleted, replaced by an older copy, or with a flipped bit,
//! over a history with deletes, leases and compactions. A member that starts on the damaged files has the same state,
//! or refuses to start and names the place.
//!
//! `QUOIN_DAMAGE_CASES=1000` plays that many cases, `QUOIN_DAMAGE_CASES=123..124` those. A child process of this test
//! binary plays a case, so that a case that dies or hangs is reported as such.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod case;
mod history;
mod member;

use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use case::{CASES, Case};
use history::{Base, bases, copy, make};
use member::Member;

/// Cases of an ordinary run.
const FEW: u64 = 60;
/// A case that takes longer counts as hanging.
const CASE_MAX: Duration = Duration::from_secs(90);
/// How a child's line begins for a case that passed.
const GOOD: &str = "good";
/// How it begins for any other.
const BAD: &str = "BAD";

#[expect(clippy::disallowed_methods, reason = "a test is configured by its environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The cases to play: spread over all, so that even few cases include every kind of file.
fn cases() -> Vec<u64> {
    let asked = variable("QUOIN_DAMAGE_CASES");
    let number = |text: &str| text.parse::<u64>().expect("QUOIN_DAMAGE_CASES is a number or a range");
    if let Some((from, to)) = asked.as_deref().and_then(|text| text.split_once("..")) {
        return (number(from)..number(to)).collect();
    }
    let count = asked.as_deref().map_or(FEW, number);
    if count >= CASES {
        return (0..count).collect();
    }
    // One kind after another, each time with another damage: 20 kinds, 50 damages.
    let spread = |n: u64| n % 20 + 20 * ((n / 20 * 17 + n % 20 * 7) % (CASES / 20));
    (0..count).map(spread).collect()
}

#[test]
fn a_damaged_file_is_never_served() {
    let root = tempfile::tempdir().unwrap();
    make(root.path());
    let cases = cases();
    let (first, second) = cases.split_at(cases.len() / 2);
    let halves = [first, second].map(|half| Player::start(root.path(), half));
    let mut bad = Vec::new();
    for half in halves {
        bad.extend(half.finish());
    }
    assert!(
        bad.is_empty(),
        "{} of {} cases:\n{}",
        bad.len(),
        cases.len(),
        bad.join("\n")
    );
}

/// A child process and the cases it plays.
struct Player {
    root: PathBuf,
    child: Child,
    lines: Receiver<String>,
    cases: Vec<u64>,
}

impl Player {
    fn start(root: &Path, cases: &[u64]) -> Self {
        let list: Vec<String> = cases.iter().map(u64::to_string).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["one_after_another", "--exact", "--ignored", "--nocapture"])
            .env("QUOIN_DAMAGE_ROOT", root)
            .env("QUOIN_DAMAGE_LIST", list.join(","))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _gone = sender.send(line);
            }
        });
        Self {
            root: root.to_owned(),
            child,
            lines,
            cases: cases.to_vec(),
        }
    }

    /// The cases that failed. If a child dies, another one plays the rest.
    fn finish(mut self) -> Vec<String> {
        let mut bad = Vec::new();
        let mut played = 0;
        while played < self.cases.len() {
            match self.lines.recv_timeout(CASE_MAX) {
                Ok(line) if line.starts_with(GOOD) || line.starts_with(BAD) => {
                    println!("{line}");
                    played += 1;
                    bad.extend(line.starts_with(BAD).then_some(line));
                }
                Ok(_) => {}
                Err(why) => {
                    let _dead = self.child.kill();
                    let status = self.child.wait();
                    bad.push(format!("{BAD} {}: {why}, {status:?}", Case::new(self.cases[played])));
                    let rest = self.cases.split_off(played + 1);
                    self = Self::start(&self.root, &rest);
                    played = 0;
                }
            }
        }
        let _ended = self.child.wait();
        bad
    }
}

/// The work of a child.
#[test]
#[ignore = "started by the test above, with a list of cases"]
fn one_after_another() {
    let (Some(root), Some(list)) = (variable("QUOIN_DAMAGE_ROOT"), variable("QUOIN_DAMAGE_LIST")) else {
        return;
    };
    let bases = bases(Path::new(&root));
    let expected: Vec<String> = bases.iter().map(|base| state_of_copy(base, Path::new(&root))).collect();
    for number in list.split(',').map(|number| number.parse().unwrap()) {
        let case = Case::new(number);
        println!(
            "{}",
            play(&case, &bases[case.base], &expected[case.base], Path::new(&root))
        );
    }
}

/// The state of an undamaged base once it runs.
fn state_of_copy(base: &Base, root: &Path) -> String {
    let dir = tempfile::tempdir_in(root).unwrap();
    copy(&base.dir, dir.path());
    let member = Member::start(dir.path(), base.keeps).unwrap();
    assert_eq!(member.damage, None, "{}", base.dir.display());
    member.state()
}

/// Plays a case and returns its result.
fn play(case: &Case, base: &Base, expected: &str, root: &Path) -> String {
    let dir = tempfile::tempdir_in(root).unwrap();
    copy(&base.dir, dir.path());
    let done = case.strike(dir.path(), base);
    let mut outcomes = Vec::new();
    // A second start must decide the same.
    for _ in RUNS {
        match Member::start(dir.path(), base.keeps) {
            Ok(member) if member.state() == *expected => {
                outcomes.push(match &member.damage {
                    None => "equal".to_owned(),
                    Some(damage) => format!("rebuilt: {}", damage.cause),
                });
                member.stop();
            }
            Ok(member) => {
                let difference = difference(expected, &member.state());
                return format!("{BAD} {case}: {done}: another state, {difference}");
            }
            Err(refusal) => {
                let said = refusal.to_string();
                let names_it = said.contains(&*dir.path().to_string_lossy()) || said.contains(".wal is corrupt");
                if !names_it {
                    return format!("{BAD} {case}: {done}: the refusal names no file: {said}");
                }
                outcomes.push(format!("refused: {said}"));
            }
        }
    }
    let outcomes = outcomes.join(" | then ").replace(&*dir.path().to_string_lossy(), "");
    format!("{GOOD} {case}: {done}: {outcomes}")
}

const RUNS: Range<u8> = 0..2;

/// The first line that differs.
fn difference(expected: &str, found: &str) -> String {
    let mut pairs = expected.lines().zip(found.lines());
    let pair = pairs.find(|(expected, found)| expected != found);
    let short = |line: &str| line.chars().take(120).collect::<String>();
    match pair {
        Some((expected, found)) => format!("{:?} instead of {:?}", short(found), short(expected)),
        None => format!(
            "{} lines instead of {}",
            found.lines().count(),
            expected.lines().count()
        ),
    }
}
