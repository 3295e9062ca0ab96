//! How long the figures take that compare all images with all others, at the most images that they look at. Not run
//! by default: `cargo test --release --test it metric_speed -- --ignored --nocapture --test-threads 1`

use std::time::Instant;
use umbra::metric::{self, Area, Features, Padded, Refusal};
use umbra::random::Stream;

const IMAGES: usize = 10_000;
/// As wide as DINOv2-B's class token.
const WIDTH: usize = 768;

#[test]
#[ignore = "minutes of work, for its printed times"]
fn nearest_neighbours() {
    let rows = rows(1, WIDTH);
    let labels: Vec<Vec<Option<bool>>> = (0..14u64)
        .map(|label| {
            let stream = Stream::new(label, "labels");
            (0..IMAGES as u64).map(|image| Some(stream.at(image).chance(0.2))).collect()
        })
        .collect();
    let patients: Vec<usize> = (0..IMAGES).map(|image| image / 3).collect();
    let features = Features::new(&rows, WIDTH);
    let found = timed("kNN", || {
        metric::knn::accuracy_leave_group_out(features, &labels, &patients, 20).unwrap()
    });
    println!("{found:?}");
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn overlap() {
    let (real, generated) = (rows(1, WIDTH), rows(2, WIDTH));
    let found = timed("precision, recall, density, coverage", || {
        metric::prdc(Features::new(&real, WIDTH), Features::new(&generated, WIDTH), 5).unwrap()
    });
    println!("{found:?}");
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn nearest_image() {
    // Bars at the sides of various widths, as radiographs have.
    let images = |seed| -> Vec<Padded> {
        let rows = rows(seed, 64 * 64);
        let image = |(at, pixels): (usize, &[f32])| {
            let content = Area { columns: [at % 8, 64 - at % 8], rows: [0, 64] };
            Padded { pixels: pixels.to_vec(), content }
        };
        rows.chunks(64 * 64).enumerate().map(image).collect()
    };
    let (queries, references) = (images(1), images(2));
    let found =
        timed("nearest image", || metric::nearest_by_pearson(&queries, &references, 64).unwrap());
    println!("{:?}", found[0]);
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn frechet() {
    for width in [768, 2048] {
        let (real, generated) = (rows(1, width), rows(2, width));
        let found = timed(&format!("Fréchet distance of {width} features"), || {
            metric::frechet_distance(Features::new(&real, width), Features::new(&generated, width))
                .unwrap()
        });
        println!("{found:?}");
    }
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn copying() {
    let all = [rows(1, WIDTH), rows(2, WIDTH), rows(3, WIDTH)];
    let sets = all.each_ref().map(|rows| Features::new(rows, WIDTH));
    timed("authenticity", || metric::copying::is_authentic(sets[0], sets[2]).unwrap());
    let found = timed("data copying", || {
        let centres = metric::copying::k_means(sets[0], 5, 1).unwrap();
        let centres = Features::new(&centres, WIDTH);
        let cells = sets.map(|set| metric::copying::cells_of(set, centres).unwrap());
        metric::copying::data_copying(sets, cells.each_ref().map(Vec::as_slice), 0.0).unwrap()
    });
    println!("{found:?}");
}

#[test]
#[ignore = "seconds of work, for its printed times"]
fn radiomics() {
    const SIZE: usize = 128;
    let images: Vec<Vec<f32>> =
        (0..200).map(|at| umbra::data::phantom::render(1, at, SIZE).image.pixels).collect();
    let found = timed("radiomics of 200 phantoms at 128 px, on one thread", || {
        images.iter().map(|image| metric::radiomics::features(image, SIZE)).collect::<Vec<_>>()
    });
    assert!(found.iter().flatten().all(|value| value.is_finite()));
}

#[test]
#[ignore = "minutes of work, for its printed times"]
fn structural_similarity() {
    let images: Vec<Vec<f32>> =
        rows(1, 512 * 512 / 100).chunks_exact(512 * 512).map(<[f32]>::to_vec).collect();
    timed("MS-SSIM of 500 pairs at 512 px", || {
        let image = |at: usize| Ok::<_, Refusal>(&images[at]);
        metric::diversity(images.len(), image, 512, 500, 1).unwrap();
    });
}

/// Rows with something in common, as features have.
fn rows(seed: u64, width: usize) -> Vec<f32> {
    let common = Stream::new(0, "common").at(0).normals(width);
    let stream = Stream::new(seed, "rows");
    (0..IMAGES as u64)
        .flat_map(|row| {
            let mut values = stream.at(row).normals(width);
            values.iter_mut().zip(&common).for_each(|(value, common)| *value += common);
            values
        })
        .collect()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let found = work();
    println!(
        "{what}: {:.1} s on {} threads",
        start.elapsed().as_secs_f64(),
        rayon::current_num_threads()
    );
    found
}
