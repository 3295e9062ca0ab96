use super::*;
use crate::diffusion::schedule::RectifiedFlow;

#[derive(Deserialize)]
struct Golden {
    shares: Vec<f64>,
    quantiles: Vec<Quantiles>,
    histograms: Vec<Histogram>,
}

#[derive(Deserialize)]
struct Quantiles {
    times: Times,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Histogram {
    times: Times,
    shift: f64,
    shares: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/golden/times.json")).unwrap()
}

fn examples() -> [Times; 6] {
    [
        Times::Uniform,
        Times::LogitNormal { mean: 0.0, std: 1.0 },
        Times::LogitNormal { mean: -0.5, std: 0.6 },
        Times::Mode { scale: 1.29 },
        Times::Mode { scale: -1.0 },
        Times::CosMap,
    ]
}

/// Reference: scipy (tests/golden/times.py, versions in its header).
#[test]
fn quantiles_are_those_of_scipy() {
    let golden = golden();
    for Quantiles { times, values } in &golden.quantiles {
        for (&u, &expected) in golden.shares.iter().zip(values) {
            let found = times.quantile(u);
            // 1 − u has lost digits that u near 0 has.
            assert!((found - expected).abs() < 1e-12, "{times:?} at {u}: {found}, {expected}");
        }
    }
}

/// Reference: a million draws of diffusers' training script for Stable Diffusion 3, shift included.
#[test]
fn sigmas_are_spread_as_in_diffusers() {
    for Histogram { times, shift, shares } in golden().histograms {
        let stream = Stream::new(1, "times");
        let schedule = Schedule::RectifiedFlow(RectifiedFlow { shift });
        let draws = TimeDraws { schedule, times, strata: None, stream };
        let count = 400_000;
        let mut found = [0.0; 10];
        for position in 0..count {
            let (_, sigma) = draws.schedule.alpha_sigma(draws.at(position));
            found[((sigma * 10.0) as usize).min(9)] += 1.0 / count as f64;
        }
        for (found, expected) in found.iter().zip(&shares) {
            // Four standard errors of either count, and the thousand timesteps of diffusers at the edges of the bins.
            assert!((found - expected).abs() < 6e-3, "{times:?} {shift}: {found}, {expected}");
        }
    }
}

#[test]
fn quantiles_rise_from_end_to_end() {
    for times in examples() {
        let values: Vec<f64> =
            (0..=1000).map(|at| times.quantile(f64::from(at) / 1000.0)).collect();
        assert!(values.is_sorted(), "{times:?}");
        assert!(values[0].abs() < 1e-12 && (values[1000] - 1.0).abs() < 1e-12, "{times:?}");
    }
    for u in [0.1, 0.5, 0.9] {
        assert_eq!(Times::Uniform.quantile(u), u, "bit for bit what it was");
    }
}

#[test]
fn strata_cover_a_batch_and_leave_each_position_its_spread() {
    let batch = 16;
    for schedule in Schedule::examples() {
        for times in examples() {
            let stream = Stream::new(1, "times");
            let draws =
                TimeDraws { schedule: schedule.clone(), times, strata: Some(batch), stream };
            for first in (0..20).map(|number| number * batch as u64) {
                let mut drawn: Vec<f64> = (first..).take(batch).map(|at| draws.at(at)).collect();
                drawn.sort_by(f64::total_cmp);
                for (at, t) in drawn.iter().enumerate() {
                    // Each between the ends of its stretch, up to the next timestep of a discrete schedule.
                    let end = |at: usize| times.quantile(at as f64 / batch as f64);
                    let place = format!("{schedule:?} {times:?} {at}: {t}");
                    assert!(*t >= end(at) - 1e-9 && *t <= end(at + 1) + 1.001e-3, "{place}");
                }
            }
        }
    }
    // One position of a batch sees all times alike: a uniform draw's mean and square within four standard errors.
    let schedule = Schedule::RectifiedFlow(RectifiedFlow::default());
    let stream = Stream::new(1, "times");
    let draws = TimeDraws { schedule, times: Times::Uniform, strata: Some(batch), stream };
    let count = 20_000u64;
    let third: Vec<f64> = (0..count).map(|number| draws.at(16 * number + 2)).collect();
    let mean = |of: fn(f64) -> f64| third.iter().map(|t| of(*t)).sum::<f64>() / count as f64;
    let error = 4.0 / (count as f64).sqrt();
    assert!((mean(|t| t) - 0.5).abs() < error * (1.0f64 / 12.0).sqrt());
    assert!((mean(|t| t * t) - 1.0 / 3.0).abs() < error * (4.0f64 / 45.0).sqrt());
}

#[test]
fn times_that_never_begin_where_sampling_does_are_refused() {
    for times in examples() {
        assert_eq!(times.check(), Vec::<String>::new(), "{times:?}");
    }
    for (times, expected) in [
        (Times::LogitNormal { mean: 0.0, std: 0.0 }, "std is 0; expected a number above 0"),
        (Times::LogitNormal { mean: f64::NAN, std: 1.0 }, "mean is NaN; expected a number"),
        (Times::LogitNormal { mean: -3.0, std: 0.5 }, "mean is -3 with std 0.5; expected a mean"),
        (Times::Mode { scale: 2.0 }, "scale is 2; expected -1 to 1.7519"),
    ] {
        let faults = times.check();
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{faults:?}");
    }
}
