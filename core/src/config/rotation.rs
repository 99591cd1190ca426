//! Rotation of the log's file: when it is replaced, how the replaced ones are named, and which of them are removed.
//! The settings and names are those of lumberjack, the library that etcd uses.

use serde_json::Value;

/// The size of a file if `maxsize` is 0 or not given, in MiB.
const DEFAULT_MIB: u64 = 100;
const MIB: u64 = 1024 * 1024;
const DAY_SECONDS: u64 = 86_400;

/// What a compressed file's name ends with.
pub const COMPRESSED: &str = ".gz";

/// The settings of `--log-rotation-config-json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// A file that would get larger than this is replaced.
    pub max_bytes: u64,
    /// Replaced files that are older than this are removed; `None` keeps them.
    pub max_age_seconds: Option<u64>,
    /// At most this many replaced files are kept; `None` keeps all.
    pub max_backups: Option<usize>,
    /// Replaced files are compressed.
    pub compress: bool,
    /// Local time is asked for in the names of replaced files; they have UTC all the same.
    pub local_time: bool,
}

impl Rotation {
    /// Reads the settings. As in etcd, a file name in them does not count.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let read: Result<Value, _> = serde_json::from_str(text);
        let read = read.map_err(|error| format!("improperly formatted log rotation config: {error}"))?;
        let wrong = |key: &str| format!("invalid log rotation config: {key} has a value of the wrong type");
        let object = read.as_object().ok_or_else(|| wrong("the document"))?;
        let number = |key: &str| match object.get(key) {
            None => Ok(0),
            Some(value) => value.as_i64().ok_or_else(|| wrong(key)),
        };
        let switch = |key: &str| match object.get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong(key)),
        };
        if object.get("filename").is_some_and(|name| !name.is_string()) {
            return Err(wrong("filename"));
        }
        // Go's multiplication of a negative size gives a limit that every line exceeds; here it is the default.
        let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        let (size, age, backups) = (number("maxsize")?, number("maxage")?, number("maxbackups")?);
        Ok(Self {
            max_bytes: positive(size).unwrap_or(DEFAULT_MIB).saturating_mul(MIB),
            max_age_seconds: positive(age).map(|days| days.saturating_mul(DAY_SECONDS)),
            max_backups: positive(backups).map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            compress: switch("compress")?,
            local_time: switch("localtime")?,
        })
    }

    /// Which of the replaced files are removed: those beyond the number, and those whose time is before `oldest` (in
    /// the form that names have). `names` are the names in the file's folder, `log` is the file's.
    #[must_use]
    pub fn obsolete<'a>(&self, log: &str, names: &'a [String], oldest: Option<&str>) -> Vec<&'a str> {
        let mut found: Vec<(&str, &str)> = names
            .iter()
            .filter_map(|name| Some((time_of(log, name)?, name.as_str())))
            .collect();
        // The newest first. A file and its compressed form have the same time, and count once.
        found.sort_unstable_by(|a, b| b.cmp(a));
        let mut times: Vec<&str> = found.iter().map(|(time, _)| *time).collect();
        times.dedup();
        let kept = self.max_backups.unwrap_or(usize::MAX).min(times.len());
        let is_kept = |time: &str| times[..kept].contains(&time) && oldest.is_none_or(|oldest| time >= oldest);
        found.retain(|(time, _)| !is_kept(time));
        found.into_iter().map(|(_, name)| name).collect()
    }
}

/// The name of the file that replaces `log` at this time, which has the form `2006-01-02T15-04-05.000`.
#[must_use]
pub fn backup_name(log: &str, time: &str) -> String {
    let (stem, end) = split(log);
    format!("{stem}-{time}{end}")
}

/// The time in the name of a replaced file, or `None` if the name is another file's.
#[must_use]
pub fn time_of<'a>(log: &str, name: &'a str) -> Option<&'a str> {
    const SHAPE: &str = "0000-00-00T00-00-00.000";
    let (stem, end) = split(log);
    let name = name.strip_suffix(COMPRESSED).unwrap_or(name);
    let time = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(end)?;
    let fits = |(given, shape): (u8, u8)| {
        if shape == b'0' {
            given.is_ascii_digit()
        } else {
            given == shape
        }
    };
    (time.len() == SHAPE.len() && time.bytes().zip(SHAPE.bytes()).all(fits)).then_some(time)
}

/// A file's name without its extension, and the extension with its dot.
fn split(name: &str) -> (&str, &str) {
    name.rfind('.').map_or((name, ""), |dot| name.split_at(dot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: [&str; 3] = [
        "2026-01-01T00-00-00.000",
        "2026-01-02T00-00-00.000",
        "2026-01-03T00-00-00.000",
    ];

    fn rotation(text: &str) -> Rotation {
        Rotation::parse(text).unwrap()
    }

    #[test]
    fn settings_have_lumberjacks_meaning() {
        let default = rotation("{}");
        assert_eq!((default.max_bytes, default.max_age_seconds), (100 * MIB, None));
        assert_eq!((default.max_backups, default.compress), (None, false));
        let set = rotation(r#"{"maxsize": 1, "maxage": 2, "maxbackups": 3, "compress": true, "localtime": true}"#);
        assert_eq!((set.max_bytes, set.max_age_seconds), (MIB, Some(172_800)));
        assert_eq!((set.max_backups, set.compress, set.local_time), (Some(3), true, true));
        assert_eq!(rotation(r#"{"maxsize": 9223372036854775807}"#).max_bytes, u64::MAX);
    }

    #[test]
    fn replaced_files_are_named_by_time() {
        assert_eq!(backup_name("etcd.log", TIMES[0]), format!("etcd-{}.log", TIMES[0]));
        assert_eq!(backup_name("etcd", TIMES[0]), format!("etcd-{}", TIMES[0]));
        for name in ["etcd.log", "a.log"] {
            let backup = backup_name(name, TIMES[1]);
            assert_eq!(time_of(name, &backup), Some(TIMES[1]));
            assert_eq!(time_of(name, &format!("{backup}.gz")), Some(TIMES[1]));
        }
        for other in [
            "etcd.log",
            "etcd-2026.log",
            "etcd-2026-01-01T00:00:00.000.log",
            "x-2026-01-01T00-00-00.000.log",
        ] {
            assert_eq!(time_of("etcd.log", other), None, "{other}");
        }
    }

    #[test]
    fn old_and_surplus_files_are_removed_and_no_others() {
        let mut names: Vec<String> = TIMES.iter().map(|time| backup_name("etcd.log", time)).collect();
        names[0].push_str(COMPRESSED);
        names.extend(["etcd.log".to_owned(), "etcd-notes.log".to_owned()]);
        let all = rotation("{}");
        assert_eq!(all.obsolete("etcd.log", &names, None), [""; 0]);
        let two = rotation(r#"{"maxbackups": 2}"#);
        assert_eq!(two.obsolete("etcd.log", &names, None), [&names[0]]);
        let aged = all.obsolete("etcd.log", &names, Some("2026-01-02T12-00-00.000"));
        assert_eq!(aged, [&names[1], &names[0]]);
    }
}
