//! The log: one line per event, in etcd's format (zap's), to the configured outputs.
//!
//! Fields named as in etcd are written as `"local-member-id" = ...`. If a field's debug form is a JSON array or object,
//! it is written as JSON, so that lists stay lists.

mod rotating;

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quoin_core::config::{Field as NoticeField, Level as NoticeLevel, Log, LogFormat, LogLevel, LogOutput, Notice};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::rotating::Rotating;
use crate::clock::Clock;

/// The target of lines that end the process: tracing has no level for them, and they are written as `fatal`.
pub(crate) const FATAL: &str = "fatal";

/// Opens the outputs and takes every event of the process from now on. A second call has no effect.
pub(crate) fn init(log: &Log, clock: Clock) -> io::Result<()> {
    let lines = Lines::open(log, clock)?;
    // An embedder may have installed its own subscriber first; then that one takes the events.
    let _ = registry().with(lines).try_init();
    Ok(())
}

/// Logs a notice of core, with core's place in the source.
pub(crate) fn notice(notice: &Notice) {
    let extra = Extra(notice);
    let origin = place(notice.source.0.file(), notice.source.0.line());
    let msg = notice.msg.as_str();
    match notice.level {
        NoticeLevel::Info => tracing::info!(origin, ?extra, "{msg}"),
        NoticeLevel::Warn => tracing::warn!(origin, ?extra, "{msg}"),
        NoticeLevel::Fatal => tracing::error!(target: FATAL, origin, ?extra, "{msg}"),
    }
}

/// Fields whose names are known only at run time. They appear as fields of the line itself.
struct Extra<'a>(&'a Notice);

/// The field that carries [`Extra`].
const EXTRA: &str = "extra";
/// The field with the place in the source of a notice of core.
const ORIGIN: &str = "origin";

impl fmt::Debug for Extra<'_> {
    /// Writes a JSON list of names and values, because a JSON object would not keep their order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pair = |(name, value): &(&str, NoticeField)| match value {
            NoticeField::Bool(on) => serde_json::json!([name, on]),
            NoticeField::Int(number) => serde_json::json!([name, number]),
            NoticeField::List(texts) => serde_json::json!([name, texts]),
            NoticeField::Text(text) => serde_json::json!([name, text]),
            NoticeField::Uint(number) => serde_json::json!([name, number]),
        };
        write!(f, "{}", self.0.fields.iter().map(pair).collect::<serde_json::Value>())
    }
}

/// The layer that writes lines.
struct Lines {
    clock: Clock,
    format: LogFormat,
    level: Level,
    /// False for levels above `error`, at which only fatal lines are written.
    errors: bool,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
}

impl Lines {
    fn open(log: &Log, clock: Clock) -> io::Result<Self> {
        let outputs = log
            .outputs
            .iter()
            .map(|output| open(log, output, &clock))
            .collect::<io::Result<Vec<_>>>()?;
        let (level, errors) = match log.level {
            LogLevel::Debug => (Level::DEBUG, true),
            LogLevel::Info => (Level::INFO, true),
            LogLevel::Warn => (Level::WARN, true),
            LogLevel::Error => (Level::ERROR, true),
            LogLevel::Panic | LogLevel::Fatal => (Level::ERROR, false),
        };
        Ok(Self {
            clock,
            format: log.format,
            level,
            errors,
            outputs: Mutex::new(outputs),
        })
    }

    fn line(&self, event: &Event<'_>) -> String {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let head = Head {
            level: level_name(event.metadata()),
            time: timestamp(self.clock.wall()),
            caller: fields.origin.take().unwrap_or_else(|| caller(event.metadata())),
        };
        match self.format {
            LogFormat::Json => json_line(&head, &fields),
            LogFormat::Console => console_line(&head, &fields),
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level && (self.errors || metadata.target() == FATAL)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = self.line(event);
        for output in self.outputs.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            // There is no other place to report this error.
            let _ = output.write_all(line.as_bytes());
        }
    }
}

fn open(log: &Log, output: &LogOutput, clock: &Clock) -> io::Result<Box<dyn Write + Send>> {
    Ok(match output {
        // systemd sends standard error to its journal.
        LogOutput::Default | LogOutput::Journal | LogOutput::Stderr => Box::new(io::stderr()),
        LogOutput::Stdout => Box::new(io::stdout()),
        LogOutput::File(path) => match &log.rotation {
            Some(rotation) => Box::new(Rotating::open(path, rotation.clone(), *clock)?),
            None => Box::new(rotating::open(Path::new(path))?),
        },
    })
}

/// The head of every line.
struct Head {
    level: &'static str,
    time: String,
    caller: String,
}

/// A line's message and its other fields as JSON values, in order.
#[derive(Default)]
struct Fields {
    message: String,
    origin: Option<String>,
    others: Vec<(String, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, json: String) {
        self.others.push((field.name().to_owned(), json));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            EXTRA => {
                let pairs: Vec<(String, serde_json::Value)> = serde_json::from_str(&text).unwrap_or_default();
                self.others
                    .extend(pairs.into_iter().map(|(name, value)| (name, value.to_string())));
            }
            _ => self.add(field, if is_json_list(&text) { text } else { json_string(&text) }),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            ORIGIN => self.origin = Some(value.to_owned()),
            _ => self.add(field, json_string(value)),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, serde_json::Value::from(value).to_string());
    }
}

fn json_line(head: &Head, fields: &Fields) -> String {
    let mut line = format!(
        "{{\"level\":\"{}\",\"ts\":\"{}\",\"caller\":{},\"msg\":{}",
        head.level,
        head.time,
        json_string(&head.caller),
        json_string(&fields.message),
    );
    for (name, value) in &fields.others {
        let _ = write!(line, ",{}:{value}", json_string(name));
    }
    line.push_str("}\n");
    line
}

fn console_line(head: &Head, fields: &Fields) -> String {
    let mut line = format!(
        "{}\t{}\t{}\t{}",
        head.time,
        head.level.to_ascii_uppercase(),
        head.caller,
        fields.message
    );
    for (index, (name, value)) in fields.others.iter().enumerate() {
        let before = if index == 0 { "\t{" } else { ", " };
        let _ = write!(line, "{before}{}: {value}", json_string(name));
    }
    if !fields.others.is_empty() {
        line.push('}');
    }
    line.push('\n');
    line
}

fn level_name(metadata: &Metadata<'_>) -> &'static str {
    match *metadata.level() {
        Level::ERROR if metadata.target() == FATAL => "fatal",
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The place in the source of a log line.
fn caller(metadata: &Metadata<'_>) -> String {
    place(metadata.file().unwrap_or("unknown"), metadata.line().unwrap_or(0))
}

/// A place in the source: the last folder that is not `src`, the file and the line.
fn place(file: &str, line: u32) -> String {
    let mut parts = file.rsplit('/').filter(|part| *part != "src");
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    format!("{folder}/{name}:{line}")
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether a debug form can be written unchanged.
fn is_json_list(text: &str) -> bool {
    text.starts_with(['[', '{']) && serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// A time as `2006-01-02T15:04:05.000000Z`.
pub(crate) fn timestamp(since_1970: Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day counted from 1970, by the calendar's cycle of 400 years. Years begin in March here, so
/// that the leap day is their last.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_1970: u64 = 719_468;
    let day = day + DAYS_1970;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    /// An output that a test can read.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let log = Log {
            level,
            format,
            outputs: Vec::new(),
            rotation: None,
        };
        let mut lines = Lines::open(&log, Clock::new()).unwrap();
        lines.outputs = Mutex::new(vec![Box::new(memory.clone())]);
        tracing::subscriber::with_default(registry().with(lines), work);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_has_zaps_format() {
        let text = logged(LogFormat::Json, LogLevel::Info, || {
            let urls = vec!["http://127.0.0.1:2379".to_owned()];
            tracing::info!("local-member-id" = "8e9e", urls = ?urls, size = 3, yes = true, "ready to \"serve\"");
            tracing::debug!("not written");
        });
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(text.starts_with("{\"level\":\"info\",\"ts\":\"20"), "{text}");
        assert_eq!(line["msg"], "ready to \"serve\"");
        assert_eq!(line["local-member-id"], "8e9e");
        assert_eq!(line["urls"][0], "http://127.0.0.1:2379");
        assert_eq!(line["size"], 3);
        assert_eq!(line["yes"], true);
        assert!(
            line["caller"].as_str().unwrap().starts_with("runtime/logs.rs:"),
            "{text}"
        );
    }

    #[test]
    fn notices_keep_their_fields_and_the_level_fatal() {
        let text = logged(LogFormat::Json, LogLevel::Fatal, || {
            notice(&Notice::warn("left out"));
            let fatal = Notice::fatal("conflicting").with("zone", "[\"a\"]");
            notice(&fatal.with("args", vec!["--name".to_owned(), "a \"b\"".to_owned()]));
        });
        let said = line!() - 3;
        assert!(
            text.starts_with("{\"level\":\"fatal\",")
                && text.ends_with(&format!(
                    ",\"caller\":\"runtime/logs.rs:{said}\",\"msg\":\"conflicting\",\
                     \"zone\":\"[\\\"a\\\"]\",\"args\":[\"--name\",\"a \\\"b\\\"\"]}}\n"
                )),
            "{text}"
        );
    }

    #[test]
    fn console_lines_have_columns() {
        let text = logged(LogFormat::Console, LogLevel::Info, || {
            tracing::warn!(took = "1s", "slow")
        });
        let columns: Vec<&str> = text.trim_end().split('\t').collect();
        assert_eq!(columns[1], "WARN");
        assert_eq!(columns[3..], ["slow", "{\"took\": \"1s\"}"]);
    }

    #[test]
    fn days_become_dates() {
        let table = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_136_214_245, "2006-01-02T15:04:05.000000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
    }
}
