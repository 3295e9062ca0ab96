//! Pairs of real images, and how far between them to go.

use super::{Candidates, Interpolate, Origin, in_turn};
use crate::interrupt;
use crate::random::Stream;
use rayon::prelude::*;

/// Why there is nothing to make synthetic images from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifoldError {
    /// No real image at all.
    #[error("there is no real image to start from")]
    Empty,
    /// Real images, but none with a partner.
    #[error(
        "none of the {images} real images has a partner to interpolate with: it takes two patients \
         with identical labels"
    )]
    NoPartner {
        /// How many there are.
        images: usize,
    },
    /// The process was asked to end.
    #[error("a signal came before all partners were found")]
    Stopped,
}

/// The pairs that `section` asks for.
///
/// First sources take turns among the images that have a partner; the partner is drawn among the
/// nearest neighbours of equal labels, its weight uniformly from the section's range.
pub fn interpolation_plan<L: Ord + Sync, P: Eq + Sync>(
    candidates: &Candidates<'_, L, P>,
    section: &Interpolate,
    seed: u64,
) -> Result<Vec<Origin>, ManifoldError> {
    if candidates.is_empty() {
        return Err(ManifoldError::Empty);
    }
    let anchors: Vec<usize> =
        (0..candidates.len()).filter(|&image| candidates.has_neighbour(image)).collect();
    if anchors.is_empty() {
        return Err(ManifoldError::NoPartner { images: candidates.len() });
    }
    let order = Stream::new(seed, "manifold/interpolate/order");
    let pairs = Stream::new(seed, "manifold/interpolate");
    let (low, high) = section.weight;
    let origin = |image: u64| {
        // Every image is compared with all that have its labels.
        interrupt::unless_requested().map_err(|_| ManifoldError::Stopped)?;
        let first = anchors[in_turn(anchors.len(), order, image)];
        let near = candidates.neighbours(first, section.neighbours.max(1));
        let mut draws = pairs.at(image);
        let second = near[draws.below(near.len() as u64) as usize];
        Ok(Origin {
            strategy: "Interpolate".into(),
            sources: vec![first, second],
            weight: Some(draws.range(low, high)),
            seed: draws.below(1 << 53),
        })
    };
    (0..section.images as u64).into_par_iter().map(origin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_near_share_labels_and_have_weights_in_range() {
        let (count, width) = (40, 6);
        let embeddings = Stream::new(3, "embeddings").at(0).normals(count * width);
        let labels: Vec<usize> = (0..count).map(|image| image % 3).collect();
        let patients: Vec<usize> = (0..count).map(|image| image / 2).collect();
        let candidates = Candidates::new(embeddings.clone(), &labels, &patients);
        let section = Interpolate { images: 100, neighbours: 4, ..Interpolate::default() };
        let plan = interpolation_plan(&candidates, &section, 5).unwrap();
        assert_eq!(plan.len(), 100);
        let mut counts = vec![0; count];
        for origin in &plan {
            let [first, second] = origin.sources[..] else { panic!("{origin:?}") };
            counts[first] += 1;
            assert_eq!(labels[first], labels[second]);
            assert_ne!(patients[first], patients[second]);
            assert!(candidates.neighbours(first, 4).contains(&second));
            assert!((0.3..0.7).contains(&origin.weight.unwrap()));
        }
        assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
        assert_eq!(plan, interpolation_plan(&candidates, &section, 5).unwrap());
        assert_ne!(plan, interpolation_plan(&candidates, &section, 6).unwrap());
    }

    #[test]
    fn lonely_images_are_told() {
        let section = Interpolate::default();
        let plan = |labels: &[u8], patients: &[u8]| {
            let embeddings = vec![1.0; labels.len()];
            interpolation_plan(&Candidates::new(embeddings, labels, patients), &section, 1)
        };
        assert_eq!(plan(&[], &[]), Err(ManifoldError::Empty));
        assert_eq!(plan(&[1, 2], &[1, 2]), Err(ManifoldError::NoPartner { images: 2 }));
        assert_eq!(plan(&[1, 1], &[7, 7]), Err(ManifoldError::NoPartner { images: 2 }));
        assert!(plan(&[1, 1], &[7, 8]).is_ok());
    }
}
