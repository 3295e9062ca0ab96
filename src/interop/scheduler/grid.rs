//! How torch and numpy fill arrays, to the last bit: the tables of diffusers are theirs.

/// numpy's `linspace`: `count` numbers from `first` to `last`.
pub(super) fn linspace(first: f64, last: f64, count: usize) -> Vec<f64> {
    let step = (last - first) / (count.max(2) - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + first).collect();
    if let [_, .., end] = &mut values[..] {
        *end = last;
    }
    values
}

/// torch's `linspace` in f32: counted from both ends, each product added without being rounded.
pub(super) fn linspace_f32(first: f32, last: f32, count: usize) -> Vec<f32> {
    let step = (last - first) / (count.max(2) - 1) as f32;
    let value = |i: usize| match i < count / 2 || count == 1 {
        true => step.mul_add(i as f32, first),
        false => (-step).mul_add((count - 1 - i) as f32, last),
    };
    (0..count).map(value).collect()
}

/// How many numbers numpy's `arange` makes from `first` down to 0 (excluded) in steps of `step`.
pub(super) fn arange_length(first: f64, step: f64) -> usize {
    (first / step).ceil() as usize
}

/// numpy's `arange` from `first` down to 0 (excluded) in steps of `step`.
pub(super) fn arange(first: f64, step: f64) -> Vec<f64> {
    // numpy takes the difference of the first two for the step.
    let delta = (first - step) - first;
    (0..arange_length(first, step)).map(|i| first + i as f64 * delta).collect()
}

/// numpy's `interp` in a table whose places are 0, 1, 2, …: its ends hold beyond it.
pub(super) fn interpolate(place: f64, table: &[f32]) -> f64 {
    let end = (table.len() - 1) as f64;
    let place = place.clamp(0.0, end);
    let low = place.floor();
    let value = f64::from(table[low as usize]);
    if place == low {
        return value;
    }
    (f64::from(table[low as usize + 1]) - value) * (place - low) + value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_empty_ranges_are_numpys() {
        assert!(linspace(3.0, 9.0, 0).is_empty());
        assert_eq!(linspace(3.0, 9.0, 1), [3.0]);
        assert_eq!(linspace(3.0, 9.0, 3), [3.0, 6.0, 9.0]);
        assert_eq!(linspace_f32(3.0, 9.0, 1), [3.0]);
        assert_eq!(linspace_f32(3.0, 9.0, 4), [3.0, 5.0, 7.0, 9.0]);
        assert_eq!(arange(10.0, 2.5), [10.0, 7.5, 5.0, 2.5]);
        assert_eq!(arange(10.0, 4.0), [10.0, 6.0, 2.0]);
        // numpy 2.4.6: len(np.arange(1000, 0, -1000 / 61)) is 62.
        assert_eq!(arange_length(1000.0, 1000.0 / 61.0), 62);
    }

    #[test]
    fn the_ends_of_a_table_hold_beyond_it() {
        let table = [1.0, 2.0, 4.0];
        let at = |place| interpolate(place, &table);
        assert_eq!(
            [at(-1.0), at(0.0), at(0.5), at(1.25), at(2.0), at(9.0)],
            [1.0, 1.0, 1.5, 2.5, 4.0, 4.0]
        );
    }
}
