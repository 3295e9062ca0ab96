//! A signal ends an ingest, whatever its threads wait for.

use super::*;
use crate::binary::umbra;
use crate::kill::{ended_within, signal};
use signal_hook::consts::SIGTERM;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use umbra::data::ingest::Probe;

/// What is promised from the signal to the end.
const PROMISED: Duration = Duration::from_secs(10);

/// A worker that waits for something that never comes; here, for a process that opens a suspicious file.
#[test]
fn an_ingest_ends_though_a_worker_hangs_and_the_next_one_suspects_its_image() {
    let place = small_set();
    let journal = place.catalog().with_file_name("catalog.sqlite.opening");
    fs::create_dir_all(journal.parent().unwrap()).unwrap();
    fs::write(&journal, 3i64.to_le_bytes()).unwrap();
    let hangs = Probe::new(|| {
        let mut command = Command::new("sh");
        // Until the pipe from the ingest is closed, which is when this test's process ends.
        command.args(["-c", "cat > /dev/null; exit 0"]);
        command
    });
    let site = Site { probe: Some(hangs), ..place.site() };
    let start = Instant::now();
    let mut last = 0;
    let stopped = ingest(&manifest(Columns::default()), &site, &mut |progress| {
        last = progress.done;
        let is_time = progress.done == 4 && start.elapsed() > Duration::from_millis(300);
        if is_time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(IngestError::Stopped)), "{stopped:?}");
    assert!(start.elapsed() < PROMISED);
    assert_eq!(last, 4, "the others were opened meanwhile");
    let suspects = fs::read(&journal).unwrap();
    assert!(suspects.chunks_exact(8).any(|id| id == 3i64.to_le_bytes()), "{suspects:?}");
    let resumed = ingest(&manifest(Columns::default()), &place.site(), &mut keep_on).unwrap();
    assert_eq!((resumed.opened, resumed.counts.total()), (1, 5));
}

/// `umbra ingest` of a folder or a table at `place`, where a pipe lies among the images.
fn beside_a_pipe(place: &Place, source: &str) -> Command {
    (0..3).for_each(|shade| place.image(&format!("{shade}.png"), shade));
    super::folders::fifo(&place.root().join("set/fifo"));
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--data-root"]).arg(place.root());
    command.arg("--checkpoints").arg(place.folder.path().join("runs"));
    command.args(["--json", "--set", &format!("data.source={source}")]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command ends within the promised time; whoever waits longer is killed and fails the test.
fn ended_in_time(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    ended_within(&mut child, PROMISED);
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8(output.stdout).unwrap() + std::str::from_utf8(&output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_pipe_among_the_images_is_passed_over() {
    let place = Place::new();
    let (code, said) = ended_in_time(&mut beside_a_pipe(&place, "Folder(path: \"set\")"));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("1 names in folders are passed over: a pipe, socket or device"),
        "{said}"
    );
}

#[test]
fn a_pipe_that_a_table_names_is_unreadable() {
    let place = Place::new();
    place.table("file,patient_id,mask_file\n0.png,a,fifo\n1.png,b,\n2.png,c,\nfifo,d,\n");
    let columns = "columns: (split: None, dataset: None, view: None, labels: None)";
    let source = format!("Manifest(path: \"set/manifest.csv\", {columns})");
    let (code, said) = ended_in_time(&mut beside_a_pipe(&place, &source));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 unreadable"), "{said}");
    assert!(said.contains("1 masks cannot be read"), "{said}");
}

/// A write lease makes whoever opens the file wait for its holder (fcntl(2)): a stalled file system in small. Images
/// are opened in a way that does not wait for it, masks are not.
#[test]
fn a_signal_ends_an_ingest_whose_file_stalls_and_it_has_the_threads_that_were_asked_for() {
    let place = Place::new();
    (0..3).for_each(|shade| place.image(&format!("{shade}.png"), shade));
    place.image("mask.png", 9);
    place.table("file,patient_id,mask_file\n0.png,a,\n1.png,b,mask.png\n2.png,c,\n");
    let Some(_lease) = Lease::take(&place.root().join("set/mask.png")) else {
        crate::unrun::unrun("this file system knows no leases");
        return;
    };
    let mut command = umbra();
    command.args(["ingest", "recipes/tiny.ron", "--data-root"]).arg(place.root());
    command.arg("--checkpoints").arg(place.folder.path().join("runs"));
    let columns = "columns: (split: None, dataset: None, view: None, labels: None)";
    let source = format!("data.source=Manifest(path: \"set/manifest.csv\", {columns})");
    command.args(["--threads", "3", "--set", &source]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "the ingest does not wait for the file");
    if let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", child.id())) {
        let comm =
            |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let names: BTreeSet<String> = tasks.map(|task| comm(task.unwrap())).collect();
        let workers: Vec<&String> = names.iter().filter(|it| it.starts_with("ingest-")).collect();
        assert_eq!(workers, ["ingest-0\n", "ingest-1\n", "ingest-2\n"], "--threads 3");
    }
    signal(&child, SIGTERM);
    assert_eq!(ended_within(&mut child, PROMISED).code(), Some(75));
}

#[test]
fn an_ingest_ends_though_its_table_cannot_be_read_to_the_end() {
    let place = small_set();
    let Some(_lease) = Lease::take(&place.root().join("set/manifest.csv")) else {
        crate::unrun::unrun("this file system knows no leases");
        return;
    };
    let start = Instant::now();
    let stopped = ingest(&manifest(Columns::default()), &place.site(), &mut |progress| {
        assert_eq!(progress, Progress::default(), "nothing is known yet");
        let is_time = start.elapsed() > Duration::from_millis(500);
        if is_time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(IngestError::Stopped)), "{stopped:?}");
    assert!(start.elapsed() > Duration::from_millis(400), "it waited for the table");
    assert!(start.elapsed() < PROMISED);
    assert!(!place.catalog().exists(), "nothing was begun");
}

/// The right to be asked before anybody opens a file. Whoever does meanwhile, waits; by default for 45 s.
struct Lease(#[allow(dead_code)] fs::File);

impl Lease {
    fn take(path: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        // The holder is asked by a signal that would end it.
        let asked = std::sync::Arc::default();
        signal_hook::flag::register(signal_hook::consts::SIGIO, asked).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        // SAFETY: fcntl with an integer argument on a descriptor that is open.
        #[allow(unsafe_code)]
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
        (result == 0).then_some(Self(file))
    }
}
