//! The Inception-v3 of the Fréchet inception distance: TensorFlow's network of 5 December 2015.

#![expect(non_snake_case, reason = "the fields carry the names of the state dict")]

use super::inception_blocks::{Basic, MixedA, MixedB, MixedC, MixedD, MixedE, Pool};
use super::{max_pool, parse, resize, spatial_mean, without_counters};
use crate::models::images::stack;
use crate::models::weights::StateDict;
use crate::models::{Compute, ConfigError, Init, leave};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The published network has no sizes to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionV3Config {}

/// How images become 299 × 299. Distances measured with one cannot be compared with the other's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resizing {
    /// Bilinear without antialiasing, corners aligned: TensorFlow 1 as in the first paper (Heusel et al. 2017),
    /// and torch-fidelity.
    #[default]
    Tensorflow1,
    /// Pillow's bicubic with antialiasing: clean-fid (Parmar et al. 2022).
    Clean,
}

impl InceptionV3Config {
    /// Reads a folder's `config.json`.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        parse("Inception-v3", "InceptionV3Features", json)
    }

    /// Numbers per image.
    pub fn num_features(&self) -> usize {
        2048
    }

    /// The tensors of pytorch-fid's or torch-fidelity's state dict that features need: no classifier, no batch
    /// counters.
    pub fn from_file(&self, file: StateDict) -> StateDict {
        without_counters(file).filter(|(name, _)| !name.starts_with("fc.")).collect()
    }

    /// The network, untrained.
    pub fn init(&self, init: &mut Init) -> InceptionV3Features {
        InceptionV3Features {
            Conv2d_1a_3x3: Basic::new(init, 3, 32, [3, 3]).valid(2),
            Conv2d_2a_3x3: Basic::new(init, 32, 32, [3, 3]).valid(1),
            Conv2d_2b_3x3: Basic::new(init, 32, 64, [3, 3]),
            Conv2d_3b_1x1: Basic::new(init, 64, 80, [1, 1]),
            Conv2d_4a_3x3: Basic::new(init, 80, 192, [3, 3]).valid(1),
            Mixed_5b: MixedA::new(init, 192, 32),
            Mixed_5c: MixedA::new(init, 256, 64),
            Mixed_5d: MixedA::new(init, 288, 64),
            Mixed_6a: MixedB::new(init, 288),
            Mixed_6b: MixedC::new(init, 768, 128),
            Mixed_6c: MixedC::new(init, 768, 160),
            Mixed_6d: MixedC::new(init, 768, 160),
            Mixed_6e: MixedC::new(init, 768, 192),
            Mixed_7a: MixedD::new(init, 768),
            Mixed_7b: MixedE::new(init, 1280, Pool::Average),
            Mixed_7c: MixedE::new(init, 2048, Pool::Max),
            compute: Compute::default(),
        }
    }
}

/// Inception-v3 (Szegedy et al. 2016) up to its last pool.
#[derive(Module, Debug)]
pub struct InceptionV3Features {
    Conv2d_1a_3x3: Basic,
    Conv2d_2a_3x3: Basic,
    Conv2d_2b_3x3: Basic,
    Conv2d_3b_1x1: Basic,
    Conv2d_4a_3x3: Basic,
    Mixed_5b: MixedA,
    Mixed_5c: MixedA,
    Mixed_5d: MixedA,
    Mixed_6a: MixedB,
    Mixed_6b: MixedC,
    Mixed_6c: MixedC,
    Mixed_6d: MixedC,
    Mixed_6e: MixedC,
    Mixed_7a: MixedD,
    Mixed_7b: MixedE,
    Mixed_7c: MixedE,
    #[module(skip)]
    compute: Compute,
}

impl InceptionV3Features {
    /// The same network computing in another number format.
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.compute = compute;
        self
    }

    /// `pixels` [B, 3, H, W] in [-1, 1], for published distances 299 × 299, to features [B, 2048] in f32. A single
    /// channel is repeated. No side may be below 75 pixels.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let [b, c, h, w] = pixels.dims();
        let pixels = if c == 1 { pixels.expand([b, 3, h, w]) } else { pixels };
        let x = self.Conv2d_1a_3x3.forward(self.compute.enter(pixels));
        let x = self.Conv2d_2b_3x3.forward(self.Conv2d_2a_3x3.forward(x));
        let x = self.Conv2d_3b_1x1.forward(max_pool(x, 2, 0));
        let mut x = max_pool(self.Conv2d_4a_3x3.forward(x), 2, 0);
        for block in [&self.Mixed_5b, &self.Mixed_5c, &self.Mixed_5d] {
            x = block.forward(&x);
        }
        x = self.Mixed_6a.forward(&x);
        for block in [&self.Mixed_6b, &self.Mixed_6c, &self.Mixed_6d, &self.Mixed_6e] {
            x = block.forward(&x);
        }
        x = self.Mixed_7a.forward(&x);
        x = self.Mixed_7c.forward(&self.Mixed_7b.forward(&x));
        spatial_mean(leave(x))
    }

    /// Grey images of `size` × `size` in [0, 1] as [B, 1, 299, 299] in [-1, 1): rounded to 8 bits, resized, and
    /// mapped by (x - 128) / 128.
    pub fn preprocess(
        images: &[&[f32]],
        size: usize,
        resizing: Resizing,
        device: &Device,
    ) -> Tensor<4> {
        let ready: Vec<Vec<f32>> = images
            .iter()
            .map(|image| {
                let levels = resize::levels(image);
                let mut pixels = match resizing {
                    Resizing::Tensorflow1 => resize::tensorflow1(&levels, size),
                    Resizing::Clean => resize::clean(&levels, size),
                };
                pixels.iter_mut().for_each(|value| *value = (*value - 128.0) / 128.0);
                pixels
            })
            .collect();
        stack(ready.iter().map(Vec::as_slice), resize::CLEAN, device)
    }
}
