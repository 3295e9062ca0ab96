//! Weights as named arrays on the host, named as PyTorch names them.

pub mod file;
pub mod folder;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Gradients, Tensor, TensorData};
use std::collections::BTreeMap;
use std::fmt;

/// Tensors by name, on the host.
pub type StateDict = BTreeMap<String, TensorData>;

/// Every parameter of `module` by name, as f32.
pub fn state_dict<M: Module>(module: &M) -> BTreeMap<String, TensorData> {
    survey(module, &Value)
}

/// `module` with its parameters replaced by `state`'s; device and whether a parameter learns stay.
///
/// Fails, naming every tensor at fault, unless names and shapes are exactly the module's.
pub fn load_state_dict<M: Module>(module: M, state: &StateDict) -> Result<M, WeightsError> {
    load_part(module, state, |_| true)
}

/// The same for a part of the parameters: those whose name `is_part` must be exactly those of `state`, the others stay.
pub fn load_part<M: Module>(
    module: M,
    state: &StateDict,
    is_part: impl Fn(&str) -> bool,
) -> Result<M, WeightsError> {
    check_fit(&module, state, is_part)?;
    Ok(fill(module, &mut |name| state.get(name).cloned()))
}

/// The same for a state that nobody needs afterwards: each tensor is let go as soon as it is in its place, so
/// that a large network is never held twice.
pub fn consume_state_dict<M: Module>(module: M, mut state: StateDict) -> Result<M, WeightsError> {
    check_fit(&module, &state, |_| true)?;
    Ok(fill(module, &mut |name| state.remove(name)))
}

/// Fails unless names and shapes of `state` are exactly those of the module's parameters that are part of it.
fn check_fit<M: Module>(
    module: &M,
    state: &StateDict,
    is_part: impl Fn(&str) -> bool,
) -> Result<(), WeightsError> {
    let mut expected = shapes(module);
    expected.retain(|name, _| is_part(name));
    let mut fault = Mismatch::default();
    for (name, shape) in &expected {
        match state.get(name) {
            None => fault.missing.push(name.clone()),
            Some(data) if data.shape().as_slice() != shape => fault.misshapen.push(Misshapen {
                name: name.clone(),
                expected: shape.clone(),
                found: data.shape().to_vec(),
            }),
            Some(data) if data.dtype() != DType::F32 => {
                fault.mistyped.push(format!("{name} {:?}", data.dtype()));
            }
            Some(_) => {}
        }
    }
    fault.extra = state.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    if fault == Mismatch::default() { Ok(()) } else { Err(WeightsError::Mismatch(fault)) }
}

fn fill<M: Module>(module: M, take: &mut dyn FnMut(&str) -> Option<TensorData>) -> M {
    module.map(&mut Fill { path: Path::default(), take })
}

/// `module` with only those parameters learning whose name `learns` picks.
pub fn freeze_but<M: Module>(module: M, learns: impl Fn(&str) -> bool) -> M {
    module.map(&mut Freeze { path: Path::default(), learns })
}

/// Does `name` follow `pattern`, in which a `*` stands for any text, none included?
pub fn is_named(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// How many numbers `module` learns or holds, without drawing any that are still undrawn.
pub fn num_parameters<M: Module>(module: &M) -> usize {
    module.num_params()
}

/// The shape of every parameter by name, without drawing any that are still undrawn.
pub fn shapes<M: Module>(module: &M) -> BTreeMap<String, Vec<usize>> {
    survey(module, &Shape)
}

/// The identity of every parameter by name: how optimizers and parameter groups refer to it.
pub fn ids<M: Module>(module: &M) -> BTreeMap<String, ParamId> {
    survey(module, &Id)
}

/// The gradient of every parameter that has one, by name, as f32.
pub fn gradients<M: Module>(module: &M, gradients: &Gradients) -> BTreeMap<String, TensorData> {
    survey(module, &Gradient(gradients))
}

/// Why weights were not taken.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Names or shapes are not the network's.
    #[error("the weights do not fit the network: {0}")]
    Mismatch(Mismatch),
}

/// Every tensor at fault in one try to load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// In the network, not in the weights.
    pub missing: Vec<String>,
    /// In the weights, not in the network.
    pub extra: Vec<String>,
    /// In both, in different shapes.
    pub misshapen: Vec<Misshapen>,
    /// In both, but whole numbers in the weights.
    pub mistyped: Vec<String>,
}

/// A tensor whose shape differs from the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Which one.
    pub name: String,
    /// Its shape in the network.
    pub expected: Vec<usize>,
    /// Its shape in the weights.
    pub found: Vec<usize>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            list("missing", &self.missing, Clone::clone),
            list("not in the network", &self.extra, Clone::clone),
            list("of another shape", &self.misshapen, |at| {
                format!("{} {:?} instead of {:?}", at.name, at.found, at.expected)
            }),
            list("no floats", &self.mistyped, Clone::clone),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// "3 missing (a, b, c)", with at most eight of the names; nothing for an empty list.
fn list<T>(what: &str, faults: &[T], name: impl Fn(&T) -> String) -> Option<String> {
    const MOST: usize = 8;
    let names: Vec<String> = faults.iter().take(MOST).map(name).collect();
    let rest = if faults.len() > MOST { ", …" } else { "" };
    (!faults.is_empty()).then(|| format!("{} {what} ({}{rest})", faults.len(), names.join(", ")))
}

/// Where in the module tree a visit is, as PyTorch would spell it.
#[derive(Default)]
pub(crate) struct Path {
    names: Vec<Option<String>>,
    is_whole: bool,
}

/// The enum whose variants have names of their own: which network a denoiser has is seen in its file.
const NAMED: &str = "Enum:Backbone";

impl Path {
    /// A path in which everything is named as it is in the structs, variants of enums included.
    pub(crate) fn whole() -> Self {
        Self { is_whole: true, ..Self::default() }
    }

    /// A field `at_2` stands for the numbered entry 2 of a PyTorch `Sequential`, `self_` for `self`, which
    /// Rust keeps to itself; which variant an enum is in has no name there. A [`NAMED`] one takes the place of the
    /// field that holds it.
    pub(crate) fn enter(&mut self, name: &str, container_type: &str) {
        if container_type == NAMED {
            let field = self.names.last_mut().and_then(Option::take);
            return self.names.push(field.map(|_| name.to_lowercase()));
        }
        if self.is_whole {
            return self.names.push(Some(name.to_owned()));
        }
        if container_type.starts_with("Enum:") {
            return self.names.push(None);
        }
        let name = match name.strip_prefix("at_") {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => name.strip_suffix('_').unwrap_or(name),
        };
        self.names.push(Some(name.to_owned()));
    }

    pub(crate) fn exit(&mut self) {
        self.names.pop();
    }

    pub(crate) fn name(&self) -> String {
        self.names.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

/// Something to know about each parameter.
trait Question {
    type Answer;

    fn ask<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Self::Answer>;
}

struct Survey<'a, Q: Question> {
    path: Path,
    question: &'a Q,
    found: BTreeMap<String, Q::Answer>,
}

fn survey<M: Module, Q: Question>(module: &M, question: &Q) -> BTreeMap<String, Q::Answer> {
    let mut survey = Survey { path: Path::default(), question, found: BTreeMap::new() };
    module.visit(&mut survey);
    survey.found
}

impl<Q: Question> ModuleVisitor for Survey<'_, Q> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(answer) = self.question.ask(param) {
            self.found.insert(self.path.name(), answer);
        }
    }
}

struct Value;

impl Question for Value {
    type Answer = TensorData;

    fn ask<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<TensorData> {
        Some(param.val().into_data().convert::<f32>())
    }
}

struct Shape;

impl Question for Shape {
    type Answer = Vec<usize>;

    fn ask<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<Vec<usize>> {
        Some(param.lazy_shape().to_vec())
    }
}

struct Id;

impl Question for Id {
    type Answer = ParamId;

    fn ask<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<ParamId> {
        Some(param.id)
    }
}

struct Gradient<'a>(&'a Gradients);

impl Question for Gradient<'_> {
    type Answer = TensorData;

    fn ask<const D: usize>(&self, param: &Param<Tensor<D>>) -> Option<TensorData> {
        Some(param.val().grad(self.0)?.into_data().convert::<f32>())
    }
}

struct Fill<'a> {
    path: Path,
    take: &'a mut dyn FnMut(&str) -> Option<TensorData>,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = (self.take)(&self.path.name()) else { return param };
        let tensor = Tensor::from_data(data.convert::<f32>(), &param.lazy_device());
        let id = param.id;
        param.transform_for_load(tensor, id)
    }
}

struct Freeze<F> {
    path: Path,
    learns: F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Freeze<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let learns = (self.learns)(&self.path.name());
        param.set_require_grad(learns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let name = "down_blocks.1.attentions.0.attn2.to_k.weight";
        for pattern in
            ["*", "*.attn2.*", "down_*", "*.weight", name, "*1*0*to_k*", "down_blocks.*.weight*"]
        {
            assert!(is_named(name, pattern), "{pattern}");
        }
        for pattern in ["", "attn2", "*.attn1.*", "*.bias", "up_*", "*to_k*attn2*", "down_blocks.1"]
        {
            assert!(!is_named(name, pattern), "{pattern}");
        }
        assert!(!is_named("aba", "ab*ba"), "the ends do not share letters");
    }
}
