//! How far a pixel is from the mean of its neighbours: the neighbouring grey-tone difference matrix (Amadasun & King
//! 1989), distance 1.

use super::Levels;

pub(super) const NAMES: [&str; 5] =
    ["Busyness", "Coarseness", "Complexity", "Contrast", "Strength"];

/// One level that is there.
struct Tone {
    level: f64,
    /// Its share of the pixels.
    share: f64,
    /// How far its pixels are from the mean of their neighbours, summed.
    difference: f64,
}

pub(super) fn features(levels: &Levels) -> [f64; NAMES.len()] {
    let mut differences = vec![0.0; levels.most];
    let around = levels.around();
    for at in levels.places() {
        let (mut sum, mut count) = (0, 0);
        for step in around {
            let other = levels.beside(at, step);
            sum += other;
            count += u32::from(other > 0);
        }
        let level = levels.values[at];
        let mean = f64::from(sum) / f64::from(count);
        differences[level as usize - 1] += (f64::from(level) - mean).abs();
    }
    let num_pixels = levels.len() as f64;
    let tones: Vec<Tone> = levels
        .counts()
        .iter()
        .zip(&differences)
        .enumerate()
        .filter(|(_, (count, _))| **count > 0.0)
        .map(|(at, (count, &difference))| Tone {
            level: at as f64 + 1.0,
            share: count / num_pixels,
            difference,
        })
        .collect();
    let of_pairs = |term: &dyn Fn(&Tone, &Tone) -> f64| -> f64 {
        tones.iter().map(|a| tones.iter().map(|b| term(a, b)).sum::<f64>()).sum()
    };
    let weighted: f64 = tones.iter().map(|it| it.share * it.difference).sum();
    let total: f64 = tones.iter().map(|it| it.difference).sum();
    let away = |a: &Tone, b: &Tone| (a.level - b.level).powi(2);
    let ratio = |a: f64, b: f64| if b == 0.0 { 0.0 } else { a / b };
    let count = tones.len() as f64;
    let contrast = of_pairs(&|a, b| a.share * b.share * away(a, b)) * total / num_pixels;
    let complexity = of_pairs(&|a, b| {
        let weight = a.share * a.difference + b.share * b.difference;
        (a.level - b.level).abs() * weight / (a.share + b.share)
    });
    [
        ratio(weighted, of_pairs(&|a, b| (a.level * a.share - b.level * b.share).abs())),
        if weighted == 0.0 { 1e6 } else { 1.0 / weighted },
        complexity / num_pixels,
        ratio(contrast, count * (count - 1.0)),
        ratio(of_pairs(&|a, b| (a.share + b.share) * away(a, b)), total),
    ]
}
