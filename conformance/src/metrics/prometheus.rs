//! A real Prometheus with its `promtool`, from the machine's Debian mirror: it scrapes servers, evaluates rules and answers queries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::exposition::body;
use crate::children::{self, Registered};
use crate::server::{Server, ask_at, free_address};
use crate::trouble::{During as _, Trouble};
use crate::{command, fetch, paths, wait};

const START_LIMIT: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// A running Prometheus. It is killed, and its folder removed, when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    folder: PathBuf,
    _registered: Registered,
}

/// The series that a query gives: labels and value.
pub type Series = Vec<(BTreeMap<String, String>, f64)>;

/// The folder of the programs, fetched once.
fn programs() -> Result<PathBuf, Trouble> {
    let kept = paths::own()?.join("prometheus");
    let _lock = paths::lock("prometheus")?;
    if !kept.is_dir() {
        fetch::unpacked(&["prometheus"], &kept)?;
    }
    Ok(kept.join("usr/bin"))
}

/// What `promtool check metrics` finds fault with on `/metrics` of a server: lines of a metric's name and a remark.
///
/// # Errors
/// If the server does not answer, or the text cannot be parsed at all.
pub fn remarks(server: &Server) -> Result<BTreeSet<String>, Trouble> {
    let answer = server.http("/metrics").during("asking for metrics")?;
    let mut promtool = Command::new(programs()?.join("promtool"));
    let checked = command::run(
        promtool.args(["check", "metrics"]),
        body(&answer)?.as_bytes(),
        START_LIMIT,
    )?;
    // Code 3 tells of remarks, code 1 of a text that cannot be read.
    match checked.code {
        Some(0 | 3) => Ok(checked.stderr.lines().map(str::to_owned).collect()),
        _ => Err(Trouble::new(format!(
            "promtool cannot read the metrics of {}: {}",
            server.name(),
            checked.stderr
        ))),
    }
}

impl Prometheus {
    /// Starts one that scrapes the servers of each job every second, and evaluates alerts, each a name and a condition.
    ///
    /// # Errors
    /// If it cannot be fetched, or refuses a rule.
    pub fn start(jobs: &[(&str, Vec<SocketAddr>)], alerts: &[(&str, String)]) -> Result<Self, Trouble> {
        let (programs, folder, address) = (programs()?, paths::fresh("prometheus")?, free_address()?);
        configure(&folder, jobs, alerts)?;
        let flag = |name: &str, value: String| format!("--{name}={value}");
        let shown = folder.display();
        let mut command = command::untouched(programs.join("prometheus"));
        command
            .arg(flag("config.file", format!("{shown}/prometheus.yml")))
            .arg(flag("storage.tsdb.path", format!("{shown}/data")))
            .arg(flag("web.listen-address", address.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).during("making a log")?);
        let (child, registered) = children::spawn(&mut command, Some(&folder)).during("starting Prometheus")?;
        let mut started = Self {
            address,
            child,
            folder,
            _registered: registered,
        };
        let is_ready = wait::until(START_LIMIT, STEP, || {
            let ended = started.child.try_wait().ok().flatten().map(|_| false);
            let ready = ask_at(address, "GET /-/ready", "").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
            ended.or(ready.then_some(true))
        });
        if is_ready == Some(true) {
            return Ok(started);
        }
        let log = fs::read_to_string(started.folder.join("log")).unwrap_or_default();
        Err(Trouble::new(format!("Prometheus does not start:\n{log}")))
    }

    /// The result of a query at this moment.
    ///
    /// # Errors
    /// If Prometheus does not answer, or refuses the query.
    pub fn ask(&self, query: &str) -> Result<Series, Trouble> {
        let data = self.get(&format!("/api/v1/query?query={}", escaped(query)))?;
        let series = data["result"].as_array().into_iter().flatten();
        let read = |one: &Value| -> Option<(BTreeMap<String, String>, f64)> {
            let labels = serde_json::from_value(one["metric"].clone()).ok()?;
            Some((labels, one["value"][1].as_str()?.parse().ok()?))
        };
        let read: Option<Series> = series.map(read).collect();
        read.ok_or_else(|| Trouble::new(format!("not an instant vector: {data}")))
    }

    /// The state of each alert by name, such as `ok inactive`, with the error if there is one; `None` until all were
    /// evaluated.
    ///
    /// # Errors
    /// If Prometheus does not answer.
    pub fn alerts(&self) -> Result<Option<BTreeMap<String, String>>, Trouble> {
        let data = self.get("/api/v1/rules?type=alert")?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let states: BTreeMap<String, String> = rules
            .map(|rule| {
                let text = |name: &str| rule[name].as_str().unwrap_or_default();
                let state = format!("{} {} {}", text("health"), text("state"), text("lastError"));
                (text("name").to_owned(), state.trim_end().to_owned())
            })
            .collect();
        let all_known = states.values().all(|state| !state.starts_with("unknown"));
        Ok(Some(states).filter(|states| all_known && !states.is_empty()))
    }

    fn get(&self, path: &str) -> Result<Value, Trouble> {
        let answer = ask_at(self.address, &format!("GET {path}"), "").during("asking Prometheus")?;
        let parsed: Value = serde_json::from_str(&body(&answer)?).during("reading Prometheus' answer")?;
        if parsed["status"] == "success" {
            Ok(parsed["data"].clone())
        } else {
            Err(Trouble::new(format!("{path}: {}", parsed["error"])))
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes the configuration and the rules. Both are YAML, of which JSON is a part.
fn configure(folder: &Path, jobs: &[(&str, Vec<SocketAddr>)], alerts: &[(&str, String)]) -> Result<(), Trouble> {
    let jobs: Vec<Value> = jobs
        .iter()
        .map(|(name, servers)| json!({"job_name": name, "static_configs": [{"targets": servers}]}))
        .collect();
    let rules: Vec<Value> = alerts
        .iter()
        .map(|(name, condition)| json!({"alert": name, "expr": condition}))
        .collect();
    let config = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": jobs,
    });
    let groups = json!({"groups": [{"name": "etcd", "rules": rules}]});
    for (name, content) in [("prometheus.yml", config), ("rules.yml", groups)] {
        fs::write(folder.join(name), content.to_string()).during(format_args!("writing {name}"))?;
    }
    Ok(())
}

/// Percent-encodes all bytes but letters and digits.
fn escaped(text: &str) -> String {
    let one = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}
