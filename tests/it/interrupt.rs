//! Signals, in a process of their own.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::raise;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use umbra::interrupt;
use umbra::metric::{self, Area, Features, Padded, Refusal, Subsets};
use umbra::random::Stream;

/// Run by the test below: ends the process.
#[test]
#[ignore = "ends its process"]
fn two_signals() {
    interrupt::install().unwrap();
    interrupt::install().unwrap();
    assert!(!interrupt::requested());
    raise(SIGTERM).unwrap();
    assert!(interrupt::requested());
    raise(SIGINT).unwrap();
    std::process::exit(99);
}

#[test]
fn the_first_signal_asks_and_the_second_ends_the_process() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["interrupt::two_signals", "--exact", "--ignored", "--quiet"])
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(interrupt::EXIT_AT_ONCE));
}

/// The figures that take long, each in a process of its own: there a signal is for ever.
const FIGURES: [&str; 6] = ["knn", "prdc", "nearest", "frechet", "kernel", "diversity"];

#[test]
fn a_figure_that_takes_long_stops_at_a_signal() {
    for figure in FIGURES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["interrupt::figure_and_signal", "--exact", "--ignored", "--nocapture"])
            .env("UMBRA_TEST_FIGURE", figure)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{figure}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Run by the test above: asks for a figure of more images than can be looked at in time.
#[test]
#[ignore = "signals its process"]
fn figure_and_signal() {
    let Ok(figure) = std::env::var("UMBRA_TEST_FIGURE") else { return };
    interrupt::install().unwrap();
    let rows = |seed: u64, count: usize, width: usize| {
        Stream::new(seed, "rows").at(0).normals(count * width)
    };
    // The slowest part of a Fréchet distance comes after some seconds.
    let (count, width, seconds) = match figure.as_str() {
        "frechet" => (4_200, 2048, 5.0),
        "nearest" => (4_000, 64 * 64, 0.3),
        "diversity" => (4, 512 * 512, 0.3),
        _ => (20_000, 256, 0.3),
    };
    let (a, b) = (rows(1, count, width), rows(2, count, width));
    let padded = |values: &[f32]| -> Vec<Padded> {
        let content = Area { columns: [0, 64], rows: [0, 64] };
        let images = values.chunks(width);
        images.map(|pixels| Padded { pixels: pixels.to_vec(), content }).collect()
    };
    let images = if figure == "nearest" { [padded(&a), padded(&b)] } else { Default::default() };
    let labels: Vec<Option<bool>> = (0..count).map(|image| Some(image % 7 == 0)).collect();
    let patients: Vec<usize> = (0..count).collect();
    let (real, generated) = (Features::new(&a, width), Features::new(&b, width));

    let signalled = thread::spawn(move || {
        thread::sleep(Duration::from_secs_f64(seconds));
        raise(SIGTERM).unwrap();
        Instant::now()
    });
    let found = match figure.as_str() {
        "knn" => metric::knn::accuracy_leave_group_out(real, &[labels], &patients, 20).map(drop),
        "prdc" => metric::prdc(real, generated, 5).map(drop),
        "nearest" => metric::nearest_by_pearson(&images[0], &images[1], 64).map(drop),
        "frechet" => metric::frechet_distance(real, generated).map(drop),
        "kernel" => {
            let subsets = Subsets { count: 1, size: count, seed: 1 };
            metric::kernel_distance(real, generated, &subsets).map(drop)
        }
        _ => {
            let image = |at: usize| Ok::<_, Refusal>(&a[at % 4 * width..][..width]);
            metric::diversity(1_000_000, image, 512, 1_000_000, 1).map(drop)
        }
    };
    assert_eq!(found, Err(Refusal::Stopped), "{figure}");
    let late = signalled.join().unwrap().elapsed();
    println!("{figure} stopped after {} ms", late.as_millis());
    assert!(late < Duration::from_secs(10), "{figure}: {late:?}");
}
