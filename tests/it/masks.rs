//! Masks, from the catalog to a batch.

use std::path::Path;
use std::sync::Arc;
use umbra::data::catalog::{Catalog, Entry, Split};
use umbra::data::loader::{Loader, LoaderConfig, Samples as _};
use umbra::data::mask::{Channel, Planes};
use umbra::data::radiographs::Radiographs;

const SIZE: usize = 64;

fn batch(radiographs: Arc<Radiographs>, count: usize) -> Vec<umbra::data::mask::Stacked> {
    let planes = Arc::new(Planes::new(radiographs, &[Channel::Grey, Channel::Mask]));
    let config = LoaderConfig { threads: 2, ..LoaderConfig::new(1, "masks", count) };
    Loader::start(planes, config).unwrap().next().unwrap().unwrap().items
}

/// Whether the image is brighter just outside of the mask than just inside of it, as it is around lungs: two pixels on
/// either side of the rim, padding left out.
fn lies_on_lungs(item: &umbra::data::mask::Stacked) -> bool {
    let (grey, mask) = item.values.split_at(SIZE * SIZE);
    assert!(mask.iter().all(|&value| value == 0.0 || value == 1.0));
    let share = mask.iter().sum::<f32>() / (item.content.width * item.content.height) as f32;
    assert!((0.05..0.7).contains(&share), "{share} of the image");
    let content = item.content;
    let (columns, rows) =
        (content.x..content.x + content.width, content.y..content.y + content.height);
    let is_rim = |x: usize, y: usize| {
        let own = mask[y * SIZE + x];
        let near = |at: usize, limits: &std::ops::Range<usize>| {
            at.saturating_sub(2).max(limits.start)..(at + 3).min(limits.end)
        };
        near(y, &rows).any(|row| near(x, &columns).any(|column| mask[row * SIZE + column] != own))
    };
    let mean = |of: f32| {
        let at = rows.clone().flat_map(|y| columns.clone().map(move |x| (x, y)));
        let values = at.filter(|&(x, y)| mask[y * SIZE + x] == of && is_rim(x, y));
        let values: Vec<f32> = values.map(|(x, y)| grey[y * SIZE + x]).collect();
        values.iter().sum::<f32>() / values.len() as f32
    };
    mean(0.0) > mean(1.0)
}

#[test]
fn masks_of_phantoms_reach_a_batch() {
    let run = super::binary::finished().join("tiny");
    let entries =
        Catalog::open(&run.join("catalog.sqlite")).unwrap().entries(Split::Train).unwrap();
    let radiographs = Arc::new(Radiographs::open(entries, Path::new("."), SIZE, 0));
    let items = batch(radiographs, 16);
    assert_eq!(items.len(), 16);
    let right = items.iter().filter(|item| lies_on_lungs(item)).count();
    assert!(right >= 15, "{right} of 16");
}

fn entry(id: i64, image: &str, mask: Option<&str>, [width, height]: [u32; 2]) -> Entry {
    let run = super::binary::finished().join("tiny");
    let catalog = Catalog::open(&run.join("catalog.sqlite")).unwrap();
    let some = catalog.entries(Split::Train).unwrap().remove(0);
    Entry {
        id,
        location: umbra::data::catalog::Location::File(image.into()),
        mask: mask.map(Into::into),
        width,
        height,
        ..some
    }
}

#[test]
fn what_has_no_mask_is_left_out_and_what_has_another_images_is_told_by_its_row() {
    let home = tempfile::tempdir().unwrap();
    let save = |name: &str, width, height| {
        image::GrayImage::from_fn(width, height, |x, _| image::Luma([(x % 200) as u8]))
            .save(home.path().join(name))
            .unwrap();
    };
    save("image.png", 60, 40);
    save("mask.png", 30, 20);
    save("other.png", 40, 60);
    let of = |mask: Option<&str>| {
        let entries = vec![entry(7, "image.png", mask, [60, 40])];
        Arc::new(Radiographs::open(entries, home.path(), SIZE, 0))
    };
    let planes = |mask| Planes::new(of(mask), &[Channel::Mask, Channel::Grey]);
    assert_eq!((planes(None).len(), planes(Some("mask.png")).len()), (0, 1));
    assert_eq!(of(None).mask(0).unwrap(), None);
    let item = planes(Some("mask.png")).get(0, 0).unwrap();
    // The ramp's upper half: the right half of the picture, and nothing of the padding above it.
    let (mask, grey) = item.values.split_at(SIZE * SIZE);
    let middle = &mask[SIZE / 2 * SIZE..][..SIZE];
    assert_eq!(middle.iter().filter(|&&value| value == 1.0).count(), SIZE / 2);
    assert!(middle[..SIZE / 2].iter().all(|&value| value == 0.0));
    assert!(mask[..SIZE].iter().all(|&value| value == 0.0));
    assert!(grey[SIZE / 2 * SIZE + SIZE - 1] > grey[SIZE / 2 * SIZE]);

    let error = planes(Some("other.png")).get(0, 0).unwrap_err();
    assert_eq!(error.image, Some(7));
    let told = error.to_string();
    assert!(told.contains("its mask is 40 × 60, the image 60 × 40"), "{told}");
    assert!(!told.contains("png"), "no path: {told}");
    assert!(planes(Some("gone.png")).get(0, 0).is_err());
}

/// The lung masks of the real radiographs: as a row of the manifest names them.
#[test]
fn real_lung_masks_lie_on_real_lungs() {
    let Some(root) = std::env::var_os("UMBRA_REAL_DATA") else {
        crate::unrun::unrun("UMBRA_REAL_DATA is not set");
        return;
    };
    let root = Path::new(&root);
    let mut table = csv::Reader::from_path(root.join("cxr/manifest.csv")).unwrap();
    let header = table.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|it| it == name).unwrap();
    let (file, mask) = (column("file"), column("mask_file"));
    let mut entries = Vec::new();
    for row in table.records().map(Result::unwrap).filter(|row| !row[mask].is_empty()).step_by(7) {
        let path = format!("cxr/{}", &row[file]);
        let (width, height) = image::image_dimensions(root.join(&path)).unwrap();
        let mask = format!("cxr/{}", &row[mask]);
        entries.push(entry(entries.len() as i64, &path, Some(&mask), [width, height]));
    }
    let count = entries.len().min(64);
    assert!(count > 20, "{count}");
    let items = batch(Arc::new(Radiographs::open(entries, root, SIZE, 0)), count);
    let right = items.iter().filter(|item| lies_on_lungs(item)).count();
    assert!(right * 20 >= count * 19, "{right} of {count}");
}
