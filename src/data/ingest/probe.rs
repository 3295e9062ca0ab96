//! Opening a suspicious file in a process of its own, which may die of it.

use super::open::Eyes;
use crate::data::catalog::Seen;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What ends a process for reasons of its own: a broken decoder, memory, or the processor time that it was granted. Any
/// other signal was sent by somebody.
const SUICIDES: [i32; 9] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGXCPU,
];

/// How to start a process that calls [`answer`] and nothing else, under limits of memory and processor time.
#[derive(Clone)]
pub struct Probe(Arc<dyn Fn() -> Command + Send + Sync>);

/// What came of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The file was opened, or refused.
    Seen(Box<Seen>),
    /// The process ended of it.
    Died,
    /// The process was ended by somebody, or is no such process.
    Nothing,
}

impl Probe {
    /// `command` makes that process; its streams are taken care of.
    pub fn new(command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        Self(Arc::new(command))
    }

    /// Opens the file `path` in a process of its own.
    pub(super) fn open(
        &self,
        path: &Path,
        eyes: &Eyes,
        is_patient_in_file: bool,
    ) -> io::Result<Verdict> {
        let mut command = (self.0)();
        // In a process group of its own a signal from the terminal does not reach it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut said = Vec::new();
        if let (Some(stdin), Some(mut stdout)) = (&mut stdin, stdout) {
            // A process that dies before it has read all of this says so below.
            let _ = stdin.write_all(&question(path, eyes, is_patient_in_file));
            stdout.read_to_end(&mut said)?;
        }
        let status = child.wait()?;
        // Open until here: its end tells the process that nobody waits any more.
        drop(stdin);
        let seen = status.success().then(|| serde_json::from_slice(&said).ok()).flatten();
        Ok(match seen {
            Some(seen) => Verdict::Seen(Box::new(seen)),
            None if status.signal().is_some_and(|it| SUICIDES.contains(&it)) => Verdict::Died,
            None => Verdict::Nothing,
        })
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Opens the file that is asked for on `input` and says on `output` what is seen. Ends the process when `input` ends
/// before that.
pub fn answer(mut input: impl Read + Send + 'static, mut output: impl Write) -> io::Result<()> {
    let (path, eyes) = (field(&mut input)?, field(&mut input)?);
    let (eyes, is_patient_in_file): (Eyes, bool) = serde_json::from_slice(&eyes)?;
    std::thread::spawn(move || {
        let _ = io::copy(&mut input, &mut io::sink());
        std::process::exit(1);
    });
    let seen = eyes.see(Path::new(OsStr::from_bytes(&path)), is_patient_in_file);
    output.write_all(&serde_json::to_vec(&seen)?)?;
    output.flush()
}

/// The file and how to see it, each behind its length. Not among the arguments: those are for all users of a machine
/// to see.
fn question(path: &Path, eyes: &Eyes, is_patient_in_file: bool) -> Vec<u8> {
    let eyes = serde_json::to_vec(&(eyes, is_patient_in_file)).expect("it is plain data");
    let fields = [path.as_os_str().as_bytes(), &eyes];
    fields.iter().flat_map(|it| [&(it.len() as u64).to_le_bytes()[..], it].concat()).collect()
}

fn field(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    input.take(u64::from_le_bytes(length)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::file::Window;
    use crate::data::secret::PatientSecret;

    fn eyes() -> Eyes {
        let window = Window::Percentile { low: 1.0, high: 99.0 };
        Eyes { window, secret: Some(PatientSecret::new([3; 32])) }
    }

    #[test]
    fn only_a_process_that_ended_itself_speaks_against_the_file() {
        for (script, is_death) in [
            ("exit 0", false),
            ("exit 3", false),
            ("kill -ABRT $$", true),
            ("kill -KILL $$", true),
            ("kill -TERM $$", false),
            ("kill -INT $$", false),
        ] {
            let probe = Probe::new(move || {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command
            });
            let verdict = probe.open(Path::new("a"), &eyes(), false).unwrap();
            assert_eq!(matches!(verdict, Verdict::Died), is_death, "{script}");
            assert!(!matches!(verdict, Verdict::Seen(_)), "{script}");
        }
        let no_such = Probe::new(|| Command::new("/no/such/program"));
        assert!(no_such.open(Path::new("a"), &eyes(), false).is_err());
    }

    #[test]
    fn a_question_is_read_back() {
        let bytes = question(Path::new("a b/\u{e9}"), &eyes(), true);
        let mut input = &bytes[..];
        assert_eq!(field(&mut input).unwrap(), "a b/\u{e9}".as_bytes());
        let (read, is_patient_in_file): (Eyes, bool) =
            serde_json::from_slice(&field(&mut input).unwrap()).unwrap();
        assert_eq!((read.window, read.secret), (eyes().window, eyes().secret));
        assert!(is_patient_in_file);
    }
}
