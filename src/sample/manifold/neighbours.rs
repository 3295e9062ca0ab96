//! Which real images lie close together.

use std::collections::BTreeMap;

/// Real images to choose from: an embedding, the labels and the patient of each.
///
/// Embeddings are compared by the cosine of their angle.
#[derive(Debug)]
pub struct Candidates<'a, L, P> {
    width: usize,
    units: Vec<f32>,
    labels: &'a [L],
    patients: &'a [P],
    groups: BTreeMap<&'a L, Vec<usize>>,
}

impl<'a, L: Ord, P: Eq> Candidates<'a, L, P> {
    /// `embeddings` has one row of the same length for each of `labels` and `patients`.
    pub fn new(embeddings: impl Into<Vec<f32>>, labels: &'a [L], patients: &'a [P]) -> Self {
        assert_eq!(labels.len(), patients.len(), "labels and a patient for each image");
        let mut units: Vec<f32> = embeddings.into();
        let width = units.len().checked_div(labels.len()).unwrap_or(1).max(1);
        assert_eq!(units.len(), width * labels.len(), "an embedding for each image");
        for row in units.chunks_mut(width) {
            let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        let mut groups: BTreeMap<&L, Vec<usize>> = BTreeMap::new();
        for (index, labels) in labels.iter().enumerate() {
            groups.entry(labels).or_default().push(index);
        }
        Self { width, units, labels, patients, groups }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Whether `image` has any neighbour.
    pub fn has_neighbour(&self, image: usize) -> bool {
        self.partners(image).next().is_some()
    }

    /// The `k` images nearest to `image`, nearest first, among those with identical labels and
    /// another patient. Fewer when there are fewer; equally near ones in order of their index.
    pub fn neighbours(&self, image: usize, k: usize) -> Vec<usize> {
        let query = self.unit(image);
        let cosine =
            |other: usize| -> f32 { query.iter().zip(self.unit(other)).map(|(a, b)| a * b).sum() };
        let mut near: Vec<(f32, usize)> =
            self.partners(image).map(|other| (cosine(other), other)).collect();
        let by_nearness =
            |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < near.len() {
            near.select_nth_unstable_by(k, by_nearness);
            near.truncate(k);
        }
        near.sort_by(by_nearness);
        near.into_iter().map(|(_, other)| other).collect()
    }

    fn partners(&self, image: usize) -> impl Iterator<Item = usize> + '_ {
        let group = &self.groups[&self.labels[image]];
        group.iter().copied().filter(move |&other| self.patients[other] != self.patients[image])
    }

    fn unit(&self, image: usize) -> &[f32] {
        &self.units[image * self.width..(image + 1) * self.width]
    }
}

/// [`Candidates::neighbours`] of every image. Quadratic in their number.
pub fn neighbours<L: Ord, P: Eq>(candidates: &Candidates<'_, L, P>, k: usize) -> Vec<Vec<usize>> {
    (0..candidates.len()).map(|image| candidates.neighbours(image, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn neighbours_share_labels_but_not_the_patient() {
        let embeddings = [1.0, 0.0, 2.0, 0.1, 0.0, 1.0, 5.0, 1.0, 1.0, 0.01];
        let labels = ["sick", "sick", "sick", "sick", "well"];
        let patients = [1, 2, 3, 1, 4];
        let candidates = Candidates::new(embeddings, &labels, &patients);
        assert_eq!(
            neighbours(&candidates, 9),
            [vec![1, 2], vec![0, 3, 2], vec![3, 1, 0], vec![1, 2], vec![]]
        );
        assert_eq!(candidates.neighbours(1, 1), [0]);
        assert!(candidates.has_neighbour(0) && !candidates.has_neighbour(4));
    }

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        let (count, width) = (60, 8);
        let embeddings = Stream::new(1, "embeddings").at(0).normals(count * width);
        let labels = vec![(); count];
        let patients: Vec<usize> = (0..count).collect();
        let candidates = Candidates::new(embeddings.clone(), &labels, &patients);
        let row = |image: usize| &embeddings[image * width..][..width];
        let norm = |image: usize| row(image).iter().map(|x| x * x).sum::<f32>().sqrt();
        for image in 0..count {
            let cosine = |other: usize| {
                let dot: f32 = row(image).iter().zip(row(other)).map(|(a, b)| a * b).sum();
                dot / norm(image) / norm(other)
            };
            let mut sorted: Vec<usize> = (0..count).filter(|&other| other != image).collect();
            sorted.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
            assert_eq!(candidates.neighbours(image, 5), sorted[..5]);
        }
    }

    #[test]
    fn no_images_have_no_neighbours() {
        let candidates = Candidates::<u8, u8>::new([], &[], &[]);
        assert!(candidates.is_empty() && neighbours(&candidates, 3).is_empty());
    }
}
