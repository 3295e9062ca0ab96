//! `umbra generate`: images like those of given files, from a trained model.

use super::args::Generate;
use super::exit::{self, BadArgument};
use crate::artifact;
use crate::data::file;
use crate::data::image::Gray;
use crate::data::picture::{self, Contents, Provenance};
use crate::device;
use crate::diffusion::Guidance;
use crate::interrupt;
use crate::random::Stream;
use crate::sample::generate::Request;
use crate::sample::sampler::{DpmSolver2M, Sampler};
use crate::stages;
use crate::telemetry::Watch;
use crate::telemetry::plain::plain;
use anyhow::{Context, Result};
use rand::Rng as _;
use std::io::Write as _;

/// Images drawn at once.
const BATCH: usize = 16;

/// Draws `count` images for each file, guided by its embedding, into a new folder.
pub(super) fn generate(args: &Generate) -> Result<u8> {
    let sampler = Sampler::DpmSolver2M(DpmSolver2M { steps: args.steps, ..Default::default() });
    if let Some(what) = sampler.check().into_iter().next() {
        return Err(BadArgument(format!("--{what}")).into());
    }
    let guidance = Guidance::scale(args.guidance);
    if !guidance.check().is_empty() {
        let what = format!("--guidance is {}; expected a number from 0 up", args.guidance);
        return Err(BadArgument(what).into());
    }
    interrupt::install().context("cannot listen for signals")?;
    let model = stages::open_model(&args.model, &args.data_root, &device::parse(&args.device)?)?;
    let generator = model.generator(sampler);
    let size = model.image_size;
    let mut requests = Vec::new();
    for (number, path) in args.images.iter().enumerate() {
        let square = file::read(path, &model.window)?.to_square(size);
        let tokens = model.condition(&[&square.pixels])?;
        let seeds = Stream::new(args.seed, "generate").at(number as u64);
        let seeds = (0..args.count).scan(seeds, |seeds, _| Some(seeds.next_u64()));
        requests.extend(seeds.enumerate().map(|(at, seed)| {
            let request = Request { tokens: Some(tokens[0].clone()), seed };
            (format!("{number:04}-{at:04}.png"), number, request)
        }));
    }
    let watch = Watch::new("generate", 0, requests.len() as u64);
    artifact::create_folder(&args.out, |folder| -> Result<()> {
        let mut table = csv::Writer::from_path(folder.join("generated.csv"))?;
        table.write_record(["file", "synthetic", "recipe", "image", "seed", "guidance"])?;
        for batch in requests.chunks(BATCH) {
            watch.advance(0)?;
            let asked: Vec<Request> = batch.iter().map(|(.., request)| request.clone()).collect();
            let drawn = generator.images(&asked, &guidance)?;
            for ((name, number, Request { seed, .. }), pixels) in batch.iter().zip(drawn) {
                let image = Gray { width: size, height: size, pixels };
                let recipe = &model.recipe;
                let from = Provenance { contents: Contents::Synthetic, recipe, seed: *seed };
                picture::write(&folder.join(name), &image, &from)?;
                let [image, seed] = [number.to_string(), seed.to_string()];
                let guidance = args.guidance.to_string();
                table.write_record([name, "true", recipe, &image, &seed, &guidance])?;
            }
            watch.advance(batch.len() as u64)?;
        }
        table.flush()?;
        Ok(())
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = serde_json::json!({
            "recipe": model.recipe,
            "folder": args.out,
            "images": requests.len(),
            "synthetic": true,
        });
        writeln!(out, "{document:#}")?;
    } else {
        let folder = plain(&args.out.display().to_string());
        writeln!(out, "{} synthetic images of {} in {folder}", requests.len(), model.recipe)?;
    }
    Ok(exit::DONE)
}
