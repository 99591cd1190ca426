//! The format of an etcdctl script: commands, their input, their expected output.
//!
//! ```text
//! # Comments explain; they belong to the step that follows.
//! server --max-txn-ops=2           flags of the server, at the top
//!
//! $ etcdctl put a                  runs a command
//! < 1                              a line of its standard input
//! OK                               its output: standard output, errors marked "! ", and "[exit 1]" if it failed
//!
//! ~ etcdctl get a                  runs again and again until it prints what follows
//!
//! $ etcdctl member list | sort     sorts its lines; "head N" takes the first ones
//!
//! & w etcdctl watch a --rev=1      starts in the background under the name w
//! & w < progress                   a line for its standard input
//! & w lines 3                      the next three lines it prints
//! & w stop                         ends it; the rest of its output follows
//! ```

use crate::trouble::Trouble;

/// A whole script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// Flags for the server.
    pub server: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// A step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The comment lines before it, as written.
    pub comment: Vec<String>,
    /// The action.
    pub action: Action,
    /// The expected output, without blank lines at its end.
    pub expected: String,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Starts a command in the background, under a name.
    Begin(String, String),
    /// Takes the next lines of a background command's output.
    Lines(String, usize),
    /// Runs a command with these lines of input.
    Run(String, Vec<String>),
    /// Gives a line to a background command.
    Say(String, String),
    /// Stops a background command.
    Stop(String),
    /// Repeats a command with these lines of input until the output is as expected.
    Until(String, Vec<String>),
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// If a line is invalid at its place.
    pub fn parse(text: &str) -> Result<Self, Trouble> {
        let mut script = Self::default();
        let mut comment = Vec::new();
        for (number, line) in text.lines().enumerate() {
            script
                .line(line, &mut comment)
                .map_err(|what| Trouble::new(format!("line {}: {what}: {line}", number + 1)))?;
        }
        for step in &mut script.steps {
            step.expected.truncate(step.expected.trim_end().len());
        }
        if comment.is_empty() {
            Ok(script)
        } else {
            Err(Trouble::new("the script ends with a comment that belongs to no step"))
        }
    }

    fn line(&mut self, line: &str, comment: &mut Vec<String>) -> Result<(), &'static str> {
        if line.starts_with('#') {
            comment.push(line.to_owned());
        } else if let Some(flags) = line.strip_prefix("server ")
            && self.steps.is_empty()
        {
            self.server.extend(flags.split_whitespace().map(str::to_owned));
        } else if let Some(action) = parse_action(line)? {
            self.steps.push(Step {
                comment: std::mem::take(comment),
                action,
                expected: String::new(),
            });
        } else if let Some(input) = line
            .strip_prefix('<')
            .filter(|rest| rest.is_empty() || rest.starts_with(' '))
        {
            self.input(input.strip_prefix(' ').unwrap_or(input))?;
        } else if let Some(step) = self.steps.last_mut() {
            step.expected.push_str(line);
            step.expected.push('\n');
        } else if !line.trim().is_empty() {
            return Err("output before any command");
        }
        Ok(())
    }

    fn input(&mut self, line: &str) -> Result<(), &'static str> {
        match self.steps.last_mut() {
            Some(Step {
                action: Action::Run(_, input) | Action::Until(_, input),
                expected,
                ..
            }) if expected.is_empty() => {
                input.push(line.to_owned());
                Ok(())
            }
            _ => Err("input without a command right before it"),
        }
    }

    /// Writes the script with these outputs instead of the expected ones.
    #[must_use]
    pub fn with_outputs(&self, outputs: &[String]) -> String {
        let mut text = String::new();
        for flag in &self.server {
            text.push_str(&format!("server {flag}\n"));
        }
        for (step, output) in self.steps.iter().zip(outputs) {
            if !text.is_empty() {
                text.push('\n');
            }
            for line in &step.comment {
                text.push_str(&format!("{line}\n"));
            }
            text.push_str(&format!("{}\n", step.action.written()));
            if !output.is_empty() {
                text.push_str(&format!("{output}\n"));
            }
        }
        text
    }

    /// The script with its expected output.
    #[must_use]
    pub fn expected(&self) -> String {
        let expected: Vec<String> = self.steps.iter().map(|step| step.expected.clone()).collect();
        self.with_outputs(&expected)
    }
}

impl Action {
    fn written(&self) -> String {
        let with_input = |mark: &str, command: &str, input: &[String]| {
            let lines: String = input
                .iter()
                .map(|line| format!("\n< {line}").trim_end_matches(' ').to_owned())
                .collect();
            format!("{mark} {command}{lines}")
        };
        match self {
            Self::Begin(name, command) => format!("& {name} {command}"),
            Self::Lines(name, count) => format!("& {name} lines {count}"),
            Self::Run(command, input) => with_input("$", command, input),
            Self::Say(name, line) => format!("& {name} < {line}"),
            Self::Stop(name) => format!("& {name} stop"),
            Self::Until(command, input) => with_input("~", command, input),
        }
    }
}

fn parse_action(line: &str) -> Result<Option<Action>, &'static str> {
    if let Some(command) = line.strip_prefix("$ ") {
        return Ok(Some(Action::Run(command.to_owned(), Vec::new())));
    }
    if let Some(command) = line.strip_prefix("~ ") {
        return Ok(Some(Action::Until(command.to_owned(), Vec::new())));
    }
    let Some(rest) = line.strip_prefix("& ") else {
        return Ok(None);
    };
    let (name, doing) = rest
        .split_once(' ')
        .ok_or("a background step needs a name and what to do")?;
    let name = name.to_owned();
    Ok(Some(if doing == "stop" {
        Action::Stop(name)
    } else if let Some(count) = doing.strip_prefix("lines ") {
        Action::Lines(name, count.parse().map_err(|_| "how many lines?")?)
    } else if let Some(line) = doing.strip_prefix("< ") {
        Action::Say(name, line.to_owned())
    } else {
        Action::Begin(name, doing.to_owned())
    }))
}

/// Splits a command into words as a shell does, with single and double quotes and nothing else.
#[must_use]
pub fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for char in command.chars() {
        match quote {
            Some(open) if char == open => quote = None,
            Some(_) => word.get_or_insert_default().push(char),
            None if char == '"' || char == '\'' => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            None if char.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "server --max-txn-ops=2\n\n# Why.\n$ etcdctl txn\n< one\n<\nSUCCESS\n\nOK\n\n& w etcdctl watch a\n\n& w < progress\n\n& w lines 2\nPUT\na\n\n& w stop\n\n~ etcdctl get a\nno\n";

    #[test]
    fn a_script_is_written_as_it_was_read() {
        let script = Script::parse(TEXT).unwrap();
        assert_eq!(script.server, ["--max-txn-ops=2"]);
        assert_eq!(script.steps[0].comment, ["# Why."]);
        assert_eq!(
            script.steps[0].action,
            Action::Run("etcdctl txn".into(), vec!["one".into(), String::new()])
        );
        assert_eq!(script.steps[0].expected, "SUCCESS\n\nOK");
        assert_eq!(script.steps.len(), 6);
        assert_eq!(script.expected(), TEXT);
    }

    #[test]
    fn an_invalid_script_is_refused_with_its_line() {
        for (text, why) in [
            ("OK", "line 1: output before any command: OK"),
            ("& w", "line 1: a background step needs a name and what to do: & w"),
            (
                "$ etcdctl get a\na\n< late",
                "line 3: input without a command right before it: < late",
            ),
            ("& w lines many", "line 1: how many lines?: & w lines many"),
            ("# alone", "the script ends with a comment that belongs to no step"),
        ] {
            assert_eq!(Script::parse(text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(
            words(r#"etcdctl get "" --x='a b' c"d e"f"#),
            ["etcdctl", "get", "", "--x=a b", "cd ef"]
        );
    }
}
