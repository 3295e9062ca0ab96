//! A procedure of two learners: what no task of today is.

use super::adamw::GradientSum;
use super::learning_rate::{Decay, LearningRate};
use super::*;
use crate::data::loader::{SampleError, Samples};
use crate::models::layers::Linear;
use crate::models::weights::StateDict;
use crate::models::{Fill, Init};
use crate::random::Stream;
use burn::tensor::{Tensor, TensorData};
use std::path::Path;
use std::sync::Arc;

/// Points on a line that is not at 0.
struct Points;

impl Samples for Points {
    type Item = [f32; 3];

    fn len(&self) -> u64 {
        40
    }

    fn get(&self, _: u64, position: u64) -> Result<[f32; 3], SampleError> {
        let values = Stream::new(1, "points").at(position).normals(2);
        Ok([values[0], 3.0 + 0.1 * values[1], values[1]])
    }
}

/// A generator and a critic, as WGAN has them, but for what keeps the critic's slope bounded.
struct Duel {
    generator: Learner<Linear>,
    critic: Learner<Linear>,
    device: Device,
}

impl Duel {
    fn new(plan: &Train) -> Self {
        let device = Device::flex();
        let fresh = |name: &str| {
            let init = &mut Init::new(Stream::new(1, name), &device);
            Linear::filled(init, 1, 1, Fill::Normal(0.5), Some(Fill::Zeros))
        };
        let (generator, critic) = (fresh("generator"), fresh("critic"));
        Self {
            generator: Learner::new(Some("generator"), generator, plan),
            critic: Learner::new(Some("critic"), critic, plan),
            device,
        }
    }

    fn column(&self, items: &[[f32; 3]], at: usize) -> Tensor<2> {
        let values: Vec<f32> = items.iter().map(|item| item[at]).collect();
        let data = TensorData::new(values, [items.len(), 1]);
        Tensor::from_data(data, &self.device.clone().autodiff())
    }
}

impl Procedure for Duel {
    type Batch = Vec<[f32; 3]>;

    fn name(&self) -> &'static str {
        "duel"
    }

    fn loader(&self, config: LoaderConfig) -> Result<Loader<Vec<[f32; 3]>>, LoaderError> {
        Loader::start(Arc::new(Points), config)
    }

    fn step(&mut self, items: Vec<[f32; 3]>, plan: &Train, progress: Progress) -> Report {
        let learning_rate = plan.learning_rate.at(progress.images_seen, progress.images);
        let stride = Stride { learning_rate, weight_decay: 0.0, ema_decay: 0.9 };
        let (noise, real) = (self.column(&items, 0), self.column(&items, 1));
        let mean = |points| self.critic.model().forward(points).square().mean();
        let made = self.generator.model().forward(noise);
        let apart = mean(made.clone().detach()) - mean(real);
        let fooled = -mean(made);

        let mut gradients = GradientSum::default();
        gradients.add(self.generator.model(), fooled.clone().backward());
        let mut against = GradientSum::default();
        against.add(self.critic.model(), apart.clone().backward());
        let gradient_norm = self.generator.step(gradients, stride);
        self.critic.step(against, stride);
        let figures = vec![("train/loss", fooled.inner()), ("train/critic", apart.inner())];
        Report { figures, gradient_norm, learning_rate }
    }

    fn validate(&self) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }

    fn save(&mut self, parts: &mut Parts) {
        self.generator.save(parts);
        self.critic.save(parts);
    }

    fn load(&mut self, parts: &Parts) -> Result<()> {
        self.generator.load(parts)?;
        self.critic.load(parts)
    }

    fn config(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

fn setup(folder: &Path, images: u64) -> Setup {
    let learning_rate = LearningRate { peak: 1e-2, warm_up: 0, after: Decay::Constant };
    Setup {
        section: Train { images, batch_size: 8, learning_rate, ..Train::default() },
        seed: 1,
        device: Device::flex(),
        folder: folder.to_owned(),
        threads: 2,
        data_fingerprint: "points".to_owned(),
        inputs_hash: "duel".to_owned(),
        name: "duel".to_owned(),
        recipe: String::new(),
        environment: Environment { device: "cpu".to_owned(), threads: 2, version: "0".to_owned() },
    }
}

fn parts(folder: &Path) -> Vec<StateDict> {
    let newest = checkpoint::newest(folder).unwrap().unwrap();
    let saved = checkpoint::load(&newest).unwrap();
    let part = |name: &str| saved.parts.get(name).unwrap().clone();
    ["generator-model", "generator-ema", "generator-optimizer", "critic-model", "critic-optimizer"]
        .map(part)
        .into()
}

#[test]
fn two_learners_with_a_loss_each_resume_bit_for_bit_under_their_names() {
    let [once, twice] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let train = |home: &Path, images| {
        let setup = setup(home, images);
        run_procedure(&mut Duel::new(&setup.section), &setup).unwrap()
    };
    let started = {
        let mut duel = Duel::new(&setup(once.path(), 64).section);
        let mut parts = Parts::default();
        duel.save(&mut parts);
        parts
    };
    assert_eq!(train(once.path(), 64).images_seen, 64);
    train(twice.path(), 24);
    assert_eq!(train(twice.path(), 64).images_seen, 64);
    let (whole, resumed) = (parts(once.path()), parts(twice.path()));
    assert_eq!(whole, resumed);
    assert_ne!(&whole[0], started.get("generator-model").unwrap(), "the generator has moved");
    assert_ne!(&whole[3], started.get("critic-model").unwrap(), "so has the critic");
    assert_ne!(whole[0], whole[3]);
}
