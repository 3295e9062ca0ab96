//! The student, and as its average the teacher.

use super::{Dino, Head};
use crate::models::Init;
use crate::models::encoder::{Vit, VitConfig};
use crate::random::Stream;
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};

/// Backbone and heads.
#[derive(Module, Debug)]
pub struct Distilled {
    /// What later stages use.
    pub backbone: Vit,
    /// What only training uses: scores of class tokens.
    pub head: Head,
    /// The same of patches, where they have a head of their own.
    pub patch_head: Option<Head>,
}

impl Distilled {
    /// A new student.
    pub fn new(vit: &VitConfig, dino: &Dino, seed: u64, device: &Device) -> Self {
        Self::of(vit, dino, &mut Init::new(Stream::new(seed, "encoder/init"), device))
    }

    /// The same, its weights from `init`: for who looks at names and shapes, and draws none.
    pub fn of(vit: &VitConfig, dino: &Dino, init: &mut Init) -> Self {
        let backbone = vit.init(init);
        let head = dino.head.init(vit.hidden_size, init);
        let own = dino.ibot.as_ref().and_then(|ibot| ibot.own_head());
        let patch_head = own.map(|head| head.init(vit.hidden_size, init));
        Self { backbone, head, patch_head }
    }

    /// What scores patches.
    pub(super) fn patch_head(&self) -> &Head {
        self.patch_head.as_ref().unwrap_or(&self.head)
    }
}

/// The class token [B, D] of tokens [B, T, D].
pub(super) fn class(tokens: &Tensor<3>) -> Tensor<2> {
    let [batch, _, width] = tokens.dims();
    tokens.clone().slice_dim(1, 0..1).reshape([batch, width])
}
