//! A module as a list of flat, plain tensors, named as weights are.

use crate::models::weights::Path;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Gradients, Tensor},
};
use std::collections::BTreeMap;

/// Every float parameter with its name, flat and off the autodiff graph, as a module is visited. Copies nothing.
pub(super) fn flat_values<M: Module>(module: &M) -> Vec<(String, Tensor<1>)> {
    let mut values = Values::default();
    module.visit(&mut values);
    values.found
}

/// The names alone.
pub(super) fn names<M: Module>(module: &M) -> Vec<String> {
    flat_values(module).into_iter().map(|(name, _)| name).collect()
}

/// Takes the gradient of every parameter, flat, as a module is visited.
pub(super) fn take_flat_gradients<M: Module>(
    module: &M,
    gradients: &mut Gradients,
) -> Vec<Option<Tensor<1>>> {
    let mut taken = TakenGradients { gradients, found: Vec::new() };
    module.visit(&mut taken);
    taken.found
}

/// Takes the flat, plain value of every float parameter out of `module`, with its rank, as a module is visited: nobody
/// else holds it then, so it may be changed in place. [`put_flat_values`] makes the module whole again.
pub(super) fn take_flat_values<M: Module>(module: M) -> (M, Vec<(usize, Tensor<1>)>) {
    let mut take = Take { taken: Vec::new(), nothing: None };
    let hollow = module.map(&mut take);
    (hollow, take.taken)
}

/// The other way. The values are leaves of the graph where the old ones were.
pub(super) fn put_flat_values<M: Module>(module: M, values: Vec<Tensor<1>>) -> M {
    module.map(&mut Put { values: values.into_iter() })
}

/// The names of parameters as optimizer states had them that were saved before their names were those of the weights,
/// by today's names: the path through the structs, variants of enums included.
pub(super) fn former_names<M: Module>(module: &M) -> BTreeMap<String, String> {
    let mut names = Names { path: Path::default(), whole: Path::whole(), former: BTreeMap::new() };
    module.visit(&mut names);
    names.former
}

struct Names {
    path: Path,
    whole: Path,
    former: BTreeMap<String, String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
        self.whole.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
        self.whole.exit();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.former.insert(self.path.name(), self.whole.name());
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    tensor.reshape([len])
}

#[derive(Default)]
struct Values {
    path: Path,
    found: Vec<(String, Tensor<1>)>,
}

impl ModuleVisitor for Values {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push((self.path.name(), flat(param.val().inner())));
    }
}

struct TakenGradients<'a> {
    gradients: &'a mut Gradients,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for TakenGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(param.val().grad_remove(self.gradients).map(flat));
    }
}

struct Take {
    taken: Vec<(usize, Tensor<1>)>,
    nothing: Option<Tensor<1>>,
}

impl ModuleMapper for Take {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        replace(param, |value| {
            let shape = value.shape();
            let nothing =
                self.nothing.get_or_insert_with(|| Tensor::zeros([1], &value.device())).clone();
            self.taken.push((D, flat(value)));
            nothing.reshape([1; D]).expand(shape)
        })
    }
}

struct Put {
    values: std::vec::IntoIter<Tensor<1>>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        replace(param, |hollow| match self.values.next() {
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
