//! Events: short lines on the terminal, dated lines in a run's `log.txt`.

use super::{plain::plain, progress};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What reaches the terminal. The log file gets everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What happens, too.
    Normal,
}

/// Sends events to stderr, and to the file given to [`to_file`]. Stdout stays clean.
///
/// Informative events are taken from this program only, warnings from every library. What a library says is left
/// out, but for those that see no files: it may be text of a file, which is to say a patient's. Each is told of once.
/// Only the first call in a process counts.
pub fn init(verbosity: Verbosity) {
    if LOG.set(Log { verbosity, file: Mutex::new(None) }).is_ok() {
        // Fails only where another subscriber was set: then events are already looked after.
        let subscriber = tracing_subscriber::registry().with(Lines);
        let _ = tracing::subscriber::set_global_default(subscriber);
    }
}

/// From now on, appends every event to the file `path`, with its time (UTC).
pub fn to_file(path: &Path) -> io::Result<()> {
    let file = File::options().append(true).create(true).open(path)?;
    if let Some(log) = LOG.get() {
        *log.file.lock().expect("writing a line does not panic") = Some(file);
    }
    Ok(())
}

static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    verbosity: Verbosity,
    file: Mutex<Option<File>>,
}

/// Writes each event as one line.
struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(log) = LOG.get() else { return };
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        if !is_wanted(level, target) {
            return;
        }
        let line = match is_ours(target) || sees_no_files(target) {
            true => line(event),
            false if is_news(target) => {
                format!(
                    "warning: {target} has something to say, which may be text of a file and is left out"
                )
            }
            false => return,
        };
        let line = plain(&line);
        if level <= Level::WARN || log.verbosity == Verbosity::Normal {
            // A terminal that is gone is no reason to stop.
            progress::beside_bars(|| {
                let _ = writeln!(io::stderr(), "{line}");
            });
        }
        if let Some(file) = &mut *log.file.lock().expect("writing a line does not panic") {
            let mut time = String::new();
            let _ = SystemTime.format_time(&mut Writer::new(&mut time));
            let _ = file.write_all(format!("{time} {line}\n").as_bytes());
        }
    }
}

fn is_wanted(level: Level, target: &str) -> bool {
    level <= Level::WARN || (level == Level::INFO && is_ours(target))
}

fn is_ours(target: &str) -> bool {
    target == "umbra" || target.starts_with("umbra::")
}

/// Libraries that compute, and are handed numbers only.
fn sees_no_files(target: &str) -> bool {
    ["burn", "cubecl", "cubek", "gemm", "rayon"].iter().any(|library| {
        target.strip_prefix(library).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with("::") || rest.starts_with(['_', '-'])
        })
    })
}

/// True the first time that `target`, a path in a library, is told of.
fn is_news(target: &str) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    TOLD.lock().expect("a set of names does not panic").insert(target.to_owned())
}

/// `warning: sample replaced (index 12, reason cannot decode)`
fn line(event: &Event<'_>) -> String {
    let mut words = Words::default();
    event.record(&mut words);
    let mut line = match *event.metadata().level() {
        Level::ERROR => "error: ".to_owned(),
        Level::WARN => "warning: ".to_owned(),
        _ => String::new(),
    };
    line.push_str(&words.message);
    if !words.fields.is_empty() {
        let _ = write!(line, " ({})", words.fields.join(", "));
    }
    line.replace('\n', " ")
}

#[derive(Default)]
struct Words {
    message: String,
    fields: Vec<String>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push(format!("{name} {value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
