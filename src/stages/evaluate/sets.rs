//! Generated and real images as sets: how far apart, how much in common.

use super::{Run, figure};
use crate::evaluate::report::{CoverageFigures, FrechetFigures, KernelFigures, Overlap};
use crate::evaluate::section::{Coverage, Frechet, Kernel};
use crate::metric::{self, Features, KernelDistance, Prdc, Refusal, Subsets};
use crate::stages::features::Sets;

pub(super) fn frechet(section: &Frechet, sets: &Sets) -> FrechetFigures {
    let compared = sets.compared(section.images);
    let [first, second] = compared.real_vs_real;
    FrechetFigures {
        value: figure(metric::frechet_distance(compared.real, compared.generated)),
        real_vs_real: figure(metric::frechet_distance(first, second)),
        sets: sets.described(&compared),
    }
}

impl Run {
    pub(super) fn kernel(&self, section: &Kernel, sets: &Sets) -> KernelFigures {
        let compared = sets.compared(section.images);
        let [first, second] = compared.real_vs_real;
        let distance = |a: Features, b: Features| {
            let size = section.subset_size.min(a.len()).min(b.len());
            let subsets = Subsets { count: section.subsets, size, seed: self.recipe.seed };
            metric::kernel_distance(a, b, &subsets)
        };
        let found = distance(compared.real, compared.generated);
        let part = |found: &Result<KernelDistance, Refusal>, part: fn(&KernelDistance) -> f64| {
            figure(found.clone().map(|found| part(&found)))
        };
        KernelFigures {
            value: part(&found, |it| it.mean),
            std: part(&found, |it| it.std),
            subset_size: section.subset_size.min(compared.real.len()) as u64,
            real_vs_real: part(&distance(first, second), |it| it.mean),
            sets: sets.described(&compared),
        }
    }
}

pub(super) fn coverage(section: &Coverage, sets: &Sets) -> CoverageFigures {
    let compared = sets.compared(section.images);
    let [first, second] = compared.real_vs_real;
    CoverageFigures {
        overlap: overlap(metric::prdc(compared.real, compared.generated, section.neighbours)),
        real_vs_real: overlap(metric::prdc(first, second, section.neighbours)),
        sets: sets.described(&compared),
    }
}

fn overlap(found: Result<Prdc, Refusal>) -> Overlap {
    let part = |part: fn(&Prdc) -> f64| figure(found.clone().map(|found| part(&found)));
    Overlap {
        precision: part(|it| it.precision),
        recall: part(|it| it.recall),
        density: part(|it| it.density),
        coverage: part(|it| it.coverage),
    }
}
