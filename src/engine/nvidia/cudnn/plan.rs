//! Plans: an engine of cuDNN's, made ready for one graph on one card.

#![allow(unsafe_code)] // Runs kernels on addresses that the caller gives.

use super::assembly::Assembly;
use super::descriptor::{self, Api, Choice, Descriptor, Handle, attribute, kind, note};
use super::drawing::{Drawing, Id};
use super::{CudnnError, Graph, Target};
use crate::engine::nvidia::format::Format;
use serde_json::{Value, json};
use std::sync::Arc;

/// Configurations that a mode of the heuristics is asked for.
const MOST_CONFIGURATIONS: usize = 64;

/// An engine made ready for a graph on a card. Used by one thread at a time.
pub struct Plan {
    plan: Descriptor,
    /// What the plan was built from, dropped after it: the configuration, the device, the graph.
    _config: Option<Descriptor>,
    _device: Option<Arc<Descriptor>>,
    _assembly: Option<Arc<Assembly>>,
    api: Arc<Api>,
    graph: String,
    arguments: Vec<i64>,
    scalars: Vec<(i64, f32)>,
    workspace: usize,
    engine: i64,
    is_repeatable: bool,
}

impl Plan {
    /// Bytes of device memory that it uses while it runs.
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// cuDNN's number of the engine, for logs.
    pub fn engine(&self) -> i64 {
        self.engine
    }

    /// Whether the same inputs always give the same bits, as far as is known.
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// As JSON, for [`Cudnn::load`](super::Cudnn::load) with the same graph, card and version of cuDNN.
    pub fn save(&self) -> Result<String, CudnnError> {
        let plan = self.plan.read_text(attribute::EXECUTION_PLAN_JSON_REPRESENTATION)?;
        let saved = json!({
            "cudnn": self.api.version().to_string(),
            "graph": self.graph,
            "engine": self.engine,
            "is_repeatable": self.is_repeatable,
            "plan": plan,
        });
        Ok(saved.to_string())
    }

    /// Queues it on the handle's stream. `pointers` are device addresses in the order that the [`Graph`]'s variant
    /// gives; `workspace` is 0 if none is needed.
    ///
    /// # Safety
    ///
    /// The addresses are multiples of 16 in memory of the handle's context, which holds the tensors that the graph
    /// describes and [`workspace`](Self::workspace) bytes, until the stream has passed this point.
    pub unsafe fn execute(
        &self,
        handle: &Handle,
        pointers: &[u64],
        workspace: u64,
    ) -> Result<(), CudnnError> {
        let (needed, given) = (self.arguments.len(), pointers.len());
        assert_eq!(needed, given, "an address for every tensor of {}", self.graph);
        let scalars =
            self.scalars.iter().map(|(uid, value)| (*uid, std::ptr::from_ref(value) as u64));
        let arguments = self.arguments.iter().copied().zip(pointers.iter().copied());
        let (uids, addresses): (Vec<i64>, Vec<u64>) = arguments.chain(scalars).unzip();
        let pack = Descriptor::new(&self.api, kind::VARIANT_PACK)?
            .numbers(attribute::VARIANT_PACK_UNIQUE_IDS, &uids)?
            .addresses(attribute::VARIANT_PACK_DATA_POINTERS, &addresses)?
            .addresses(attribute::VARIANT_PACK_WORKSPACE, &[workspace])?
            .finalize()?;
        // SAFETY: the caller vouches for the addresses; those of scalars are our own and read before this returns.
        unsafe { handle.execute(&self.plan, &pack) }
    }
}

/// A search for engines: one graph, one card.
pub(super) struct Search<'a> {
    api: &'a Arc<Api>,
    graph: &'a Graph,
    target: &'a Target<'a>,
    drawing: Drawing,
    assembly: Arc<Assembly>,
    device: Option<Arc<Descriptor>>,
}

impl<'a> Search<'a> {
    /// Tells the library of the graph and the card.
    pub(super) fn new(
        api: &'a Arc<Api>,
        graph: &'a Graph,
        target: &'a Target<'a>,
    ) -> Result<Self, CudnnError> {
        let drawing = graph.draw();
        let device = device(api, target)?.map(Arc::new);
        let assembly = Arc::new(Assembly::new(api, &drawing, target)?);
        Ok(Self { api, graph, target, drawing, assembly, device })
    }

    /// The first `most` plans whose workspace is within `limit`, best first, and why the last engine was refused.
    pub(super) fn plans(&self, limit: usize, most: usize) -> (Vec<Plan>, String) {
        let mut plans: Vec<Plan> = Vec::new();
        let mut refusal = "none is known".to_owned();
        for mode in [descriptor::MODE_A, descriptor::MODE_B, descriptor::MODE_FALLBACK] {
            let known: Vec<i64> = plans.iter().map(Plan::engine).collect();
            let configs = self.configurations(mode).unwrap_or_else(|error| {
                refusal = error.to_string();
                Vec::new()
            });
            for config in configs {
                if plans.len() == most {
                    return (plans, refusal);
                }
                match self.plan(config, limit, &known) {
                    Ok(plan) => plans.push(plan),
                    Err(reason) => refusal = reason.to_string(),
                }
            }
        }
        (plans, refusal)
    }

    /// What a mode of the heuristics proposes, best first.
    fn configurations(&self, mode: Choice) -> Result<Vec<Descriptor>, CudnnError> {
        let mut heuristics = Descriptor::new(self.api, kind::ENGINEHEUR)?
            .parts(attribute::ENGINEHEUR_OPERATION_GRAPH, [&self.assembly.graph])?
            .choice(attribute::ENGINEHEUR_MODE, mode)?;
        if let Some(device) = &self.device {
            heuristics = heuristics.parts(attribute::ENGINEHEUR_DEVICEPROP, [&**device])?;
        }
        let heuristics = heuristics.finalize()?;
        let mut configs = (0..MOST_CONFIGURATIONS)
            .map(|_| Descriptor::new(self.api, kind::ENGINECFG))
            .collect::<Result<Vec<_>, _>>()?;
        let count = heuristics.fill(attribute::ENGINEHEUR_RESULTS, &configs)?;
        configs.truncate(count);
        Ok(configs)
    }

    /// Builds a plan, unless its engine is `known` from an earlier mode, rounds too much or needs more than `limit`.
    fn plan(&self, config: Descriptor, limit: usize, known: &[i64]) -> Result<Plan, Refusal> {
        let engine = [Descriptor::new(self.api, kind::ENGINE)?];
        config.fill(attribute::ENGINECFG_ENGINE, &engine)?;
        let [engine] = engine;
        let notes = engine.notes()?;
        let engine = engine.number(attribute::ENGINE_GLOBAL_INDEX)?;
        if known.contains(&engine) {
            return Err(Refusal::Known { engine });
        }
        let rounds = [note::TENSOR_CORE, note::DOWN_CONVERT_INPUTS];
        if self.graph.format() == Format::F32 && notes.iter().any(|note| rounds.contains(note)) {
            return Err(Refusal::Rounds { engine });
        }
        let plan = Descriptor::new(self.api, kind::EXECUTION_PLAN)?
            .parts(attribute::EXECUTION_PLAN_ENGINE_CONFIG, [&config])?;
        let plan = on_target(plan, self.target, self.device.as_deref())?.finalize()?;
        let workspace = workspace(&plan)?;
        if workspace > limit {
            return Err(Refusal::Large { engine, workspace, limit });
        }
        Ok(Plan {
            plan,
            _config: Some(config),
            _device: self.device.clone(),
            _assembly: Some(self.assembly.clone()),
            api: self.api.clone(),
            graph: self.graph.describe(),
            arguments: self.drawing.arguments().map(Id::uid).collect(),
            scalars: scalars(&self.drawing),
            workspace,
            engine,
            // Attention's engines do not say so, but add up dQ in any order.
            is_repeatable: !notes.contains(&note::NONDETERMINISTIC)
                && !matches!(self.graph, Graph::AttendGradients(_)),
        })
    }
}

/// Why an engine is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("engine {engine} was proposed twice")]
    Known { engine: i64 },
    #[error("engine {engine} rounds factors to fewer bits than f32 has")]
    Rounds { engine: i64 },
    #[error("engine {engine} needs {workspace} bytes of workspace, {limit} are allowed")]
    Large { engine: i64, workspace: usize, limit: usize },
    #[error(transparent)]
    Cudnn(#[from] CudnnError),
}

/// Makes a plan of what [`Plan::save`] wrote.
pub(super) fn load(
    api: &Arc<Api>,
    graph: &Graph,
    saved: &str,
    target: &Target<'_>,
) -> Result<Plan, CudnnError> {
    let fault = |what: &str| CudnnError::Saved { what: what.to_owned() };
    let saved: Value = serde_json::from_str(saved).map_err(|error| fault(&error.to_string()))?;
    let text = |key: &str| saved[key].as_str().ok_or_else(|| fault(&format!("it has no {key}")));
    let (made_by, version) = (text("cudnn")?, api.version().to_string());
    if made_by != version {
        return Err(fault(&format!("it is of cuDNN {made_by}, and this is {version}")));
    }
    let described = graph.describe();
    if text("graph")? != described {
        return Err(fault("it is of another graph"));
    }
    let device = device(api, target)?.map(Arc::new);
    let plan = Descriptor::new(api, kind::EXECUTION_PLAN)?;
    let plan = on_target(plan, target, device.as_deref())?
        .text(attribute::EXECUTION_PLAN_JSON_REPRESENTATION, text("plan")?)?
        .finalize()?;
    let drawing = graph.draw();
    Ok(Plan {
        workspace: workspace(&plan)?,
        plan,
        _config: None,
        _device: device,
        _assembly: None,
        api: api.clone(),
        graph: described,
        arguments: drawing.arguments().map(Id::uid).collect(),
        scalars: scalars(&drawing),
        engine: saved["engine"].as_i64().ok_or_else(|| fault("it has no engine"))?,
        is_repeatable: saved["is_repeatable"].as_bool().unwrap_or(false),
    })
}

/// The card, where it is described.
fn device(api: &Arc<Api>, target: &Target<'_>) -> Result<Option<Descriptor>, CudnnError> {
    match target {
        Target::Here(_) => Ok(None),
        Target::Described(json) => Descriptor::new(api, kind::DEVICEPROP)?
            .text(attribute::DEVICEPROP_JSON_REPRESENTATION, json)?
            .finalize()
            .map(Some),
    }
}

fn on_target(
    plan: Descriptor,
    target: &Target<'_>,
    device: Option<&Descriptor>,
) -> Result<Descriptor, CudnnError> {
    match target {
        Target::Here(handle) => plan.handle(attribute::EXECUTION_PLAN_HANDLE, handle),
        Target::Described(_) => plan.parts(attribute::EXECUTION_PLAN_DEVICEPROP, device),
    }
}

fn workspace(plan: &Descriptor) -> Result<usize, CudnnError> {
    let bytes = plan.number(attribute::EXECUTION_PLAN_WORKSPACE_SIZE)?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}

fn scalars(drawing: &Drawing) -> Vec<(i64, f32)> {
    drawing.scalars().map(|(id, value)| (id.uid(), value)).collect()
}
