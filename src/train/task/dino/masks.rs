//! Which patches a student does not see: blocks of them, as in BEiT and iBOT.

use crate::random::Draws;

/// Smallest block that is asked for, in patches.
const SMALLEST: f64 = 4.0;
/// A block's height over its width lies between this and its inverse.
const NARROWEST: f64 = 0.3;
/// Tries to find room for a block.
const TRIES: usize = 10;

/// Masks `count` patches of a square grid of `side` × `side`, row by row: rectangles of random size and shape while they
/// fit (arXiv 2106.08254, algorithm 1), then single patches until the count is met.
pub(super) fn blocks(side: usize, count: usize, draws: &mut Draws) -> Vec<bool> {
    let mut mask = vec![false; side * side];
    let count = count.min(mask.len());
    let mut left = count;
    while left > 0 {
        let Some(block) = (0..TRIES).find_map(|_| block(side, left, &mask, draws)) else { break };
        left -= block.len();
        block.into_iter().for_each(|at| mask[at] = true);
    }
    while left > 0 {
        let open: Vec<usize> = (0..mask.len()).filter(|&at| !mask[at]).collect();
        mask[open[draws.below(open.len() as u64) as usize]] = true;
        left -= 1;
    }
    mask
}

/// The patches of a block that are not masked yet, at most `most`; none where there is no room for it.
fn block(side: usize, most: usize, mask: &[bool], draws: &mut Draws) -> Option<Vec<usize>> {
    let area = draws.range(SMALLEST.min(most as f64), most as f64);
    let aspect = draws.range(NARROWEST.ln(), -NARROWEST.ln()).exp();
    let [height, width] =
        [area * aspect, area / aspect].map(|square| square.sqrt().round() as usize);
    if height > side || width > side {
        return None;
    }
    let mut first = |length: usize| draws.below((side - length + 1) as u64) as usize;
    let (top, left) = (first(height), first(width));
    let cells =
        (top..top + height).flat_map(|row| (left..left + width).map(move |at| row * side + at));
    let new: Vec<usize> = cells.filter(|&at| !mask[at]).collect();
    (!new.is_empty() && new.len() <= most).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn as_many_patches_are_masked_as_asked_and_in_blocks() {
        let (side, mut alike, mut pairs) = (16, 0, 0);
        for position in 0..200 {
            let count = (position as usize % 140) + 1;
            let mask = blocks(side, count, &mut Stream::new(1, "masks").at(position));
            assert_eq!(mask.iter().filter(|&&is_masked| is_masked).count(), count);
            for row in mask.chunks(side) {
                alike += row.windows(2).filter(|pair| pair[0] && pair[1]).count();
                pairs += row.windows(2).filter(|pair| pair[0]).count();
            }
        }
        // Patches masked one by one, up to half of them and a quarter on the mean, have a masked right neighbour as often.
        let share = alike as f64 / pairs as f64;
        assert!(share > 0.7, "{share}");
    }

    #[test]
    fn small_grids_are_masked_too() {
        for side in 1..4 {
            for count in 0..=side * side + 1 {
                let mask = blocks(side, count, &mut Stream::new(2, "masks").at(count as u64));
                let masked = mask.iter().filter(|&&is_masked| is_masked).count();
                assert_eq!(masked, count.min(side * side));
            }
        }
    }

    #[test]
    fn every_patch_is_masked_sometimes() {
        let mut seen = vec![0; 36];
        for position in 0..300 {
            let mask = blocks(6, 9, &mut Stream::new(3, "masks").at(position));
            mask.iter()
                .zip(&mut seen)
                .for_each(|(&is_masked, seen)| *seen += usize::from(is_masked));
        }
        assert!(seen.iter().all(|&seen| seen > 20), "{seen:?}");
    }
}
