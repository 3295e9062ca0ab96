//! `umbra warm-up`: every kernel and plan of a recipe for a card that need not be here.

use super::args::WarmUp;
use super::exit::{self, BadArgument};
use super::run;
use crate::engine::nvidia::cudnn::{Cudnn, Graph, Target};
use crate::engine::nvidia::{kernels, nvrtc, plans, stand_in};
use crate::engine::requests::set_card;
use crate::engine::trace::Request;
use crate::stages::requests::requests;
use anyhow::Result;
use rayon::prelude::*;
use serde_json::json;
use std::io::Write as _;
use std::time::Instant;

/// Makes them, and fails by name where something has no engine.
pub(super) fn warm_up(warm_up: &WarmUp) -> Result<u8> {
    let start = Instant::now();
    let target = &warm_up.target;
    let known = plans::CARDS.iter().find(|(name, _)| name == target);
    let Some((_, card)) = known else {
        let names: Vec<&str> = plans::CARDS.iter().map(|(name, _)| *name).collect();
        let known = names.join(", ");
        return Err(BadArgument(format!("--target is {target:?}; expected one of {known}")).into());
    };
    let (checked, _) = run::prepare(&warm_up.at)?;
    let folder = warm_up.out.clone().map(|out| out.join("cuda")).or_else(nvrtc::cache_folder);
    nvrtc::compile_into(folder.as_deref(), kernels::SOURCE, target)?;
    let work = folder.clone().unwrap_or_else(std::env::temp_dir);
    let no_driver = stand_in::drive(&work).err();
    let cudnn = Cudnn::open()?;
    set_card(target);
    let mut graphs = Vec::new();
    let (mut products, mut left) = (0, 0);
    for request in requests(&checked) {
        match request {
            Request::Graph(Graph::Attend(_) | Graph::AttendGradients(_)) if no_driver.is_some() => {
                left += 1;
            }
            Request::Graph(graph) => graphs.push(graph),
            Request::Product(_) => products += 1,
        }
    }
    let key = plans::card_key(&cudnn, card);
    let missing: Vec<String> = graphs
        .par_iter()
        .filter_map(|graph| {
            let card = Target::Described(card);
            plans::obtain(&cudnn, graph, &card, &key, folder.as_deref()).err()
        })
        .map(|fault| fault.to_string())
        .collect();
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    if warm_up.at.json {
        let document = json!({
            "target": target,
            "plans": graphs.len() - missing.len(),
            "products": products,
            "left_to_the_card": left,
            "kernels": kernels::count(),
            "seconds": seconds,
            "missing": missing,
        });
        writeln!(out, "{document}")?;
    } else {
        for fault in &missing {
            writeln!(out, "{fault}")?;
        }
        if let Some(reason) = no_driver {
            writeln!(out, "{left} attentions are left to the card: {reason}")?;
        }
        let (plans, kernels) = (graphs.len() - missing.len(), kernels::count());
        writeln!(
            out,
            "{target}: {plans} of {} plans by cuDNN {}, {kernels} kernels, in {seconds:.1} s; {products} products \
             are chosen on the card",
            graphs.len(),
            cudnn.version()
        )?;
    }
    Ok(if missing.is_empty() { exit::DONE } else { exit::FAILED })
}
