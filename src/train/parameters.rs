//! A module as a list of flat, plain tensors, named as weights are.

use crate::models::weights::Path;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Gradients, Tensor},
};
use std::collections::BTreeMap;

/// Every float parameter by its name, flat and off the autodiff graph. Copies nothing.
pub(super) fn flat_values<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    let mut values = Values::default();
    module.visit(&mut values);
    values.by_name
}

/// Takes the gradient of every parameter that has one, by name, flat.
pub(super) fn take_flat_gradients<M: Module>(
    module: &M,
    gradients: &mut Gradients,
) -> BTreeMap<String, Tensor<1>> {
    let mut taken = TakenGradients { path: Path::default(), gradients, by_name: BTreeMap::new() };
    module.visit(&mut taken);
    taken.by_name
}

/// Takes the flat, plain value of every float parameter out of `module`, by name and with its rank: nobody else holds it
/// then, so it may be changed in place. [`put_flat_values`] makes the module whole again.
pub(super) fn take_flat_values<M: Module>(module: M) -> (M, BTreeMap<String, (usize, Tensor<1>)>) {
    let mut take = Take { path: Path::default(), taken: BTreeMap::new(), nothing: None };
    let hollow = module.map(&mut take);
    (hollow, take.taken)
}

/// The other way. The values are leaves of the graph where the old ones were.
pub(super) fn put_flat_values<M: Module>(module: M, values: BTreeMap<String, Tensor<1>>) -> M {
    module.map(&mut Put { path: Path::default(), values })
}

/// The names of parameters as optimizer states had them that were saved before their names were those of the weights,
/// by today's names: the path through the structs, variants of enums included.
pub(super) fn former_names<M: Module>(module: &M) -> BTreeMap<String, String> {
    let mut names = Names::default();
    module.visit(&mut names);
    names.former
}

#[derive(Default)]
struct Names {
    path: Path,
    whole: Vec<String>,
    former: BTreeMap<String, String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
        self.whole.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
        self.whole.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.former.insert(self.path.name(), self.whole.join("."));
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    tensor.reshape([len])
}

#[derive(Default)]
struct Values {
    path: Path,
    by_name: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_name.insert(self.path.name(), flat(param.val().inner()));
    }
}

struct TakenGradients<'a> {
    path: Path,
    gradients: &'a mut Gradients,
    by_name: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for TakenGradients<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            self.by_name.insert(self.path.name(), flat(gradient));
        }
    }
}

struct Take {
    path: Path,
    taken: BTreeMap<String, (usize, Tensor<1>)>,
    nothing: Option<Tensor<1>>,
}

impl ModuleMapper for Take {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        replace(param, |value| {
            let (shape, device) = (value.shape(), value.device());
            self.taken.insert(self.path.name(), (D, flat(value)));
            let nothing = self.nothing.get_or_insert_with(|| Tensor::zeros([1], &device));
            nothing.clone().reshape([1; D]).expand(shape)
        })
    }
}

struct Put {
    path: Path,
    values: BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Put {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        replace(param, |hollow| match self.values.remove(&self.path.name()) {
            Some(value) => value.reshape(hollow.shape()),
            None => hollow,
        })
    }
}

/// The parameter with another plain value; a leaf of the graph if it was one.
fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    map: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, value, mapper) = param.consume();
    let learns = value.is_require_grad();
    // A parameter must keep the strategy of the device it was made on.
    let checkpointing = value.gradient_checkpointing_strategy();
    let mut value = map(value.inner());
    if let Some(strategy) = checkpointing {
        value = Tensor::from_inner(value)
            .with_gradient_checkpointing_strategy(strategy)
            .set_require_grad(learns);
    }
    Param::from_mapped_value(id, value, mapper)
}
