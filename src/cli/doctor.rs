//! `umbra doctor`: what there is to compute with here, and what to install.

use super::args::Doctor;
use super::exit;
use crate::device;
use crate::engine::nvidia::survey::{self, Found};
use anyhow::Result;
use serde_json::json;
use std::io::Write as _;

/// Lists libraries, GPUs and MPI. Fails where this build could use a GPU and something it needs is missing.
pub(super) fn doctor(doctor: &Doctor) -> Result<u8> {
    let libraries = survey::libraries();
    let cards = survey::cards();
    let headers = survey::headers();
    let mpi = mpi();
    let has_cuda = device::BUILD.contains("cuda");
    let lacking = libraries.iter().any(|found| found.is_needed && found.fault.is_some());
    let is_ready = has_cuda && !lacking && cards.as_ref().is_ok_and(|cards| !cards.is_empty());
    let mut out = std::io::stdout().lock();
    if doctor.json {
        let document = json!({
            "build": device::BUILD,
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "gpus": cards.as_ref().ok(),
            "gpu_fault": cards.as_ref().err(),
            "libraries": libraries,
            "headers": headers,
            "mpi": mpi,
            "can_use_gpu": is_ready,
        });
        writeln!(out, "{document}")?;
    } else {
        writeln!(out, "build       {}", device::BUILD)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        writeln!(out, "cpu         {cores} cores")?;
        match &cards {
            Ok(cards) => {
                for (at, card) in cards.iter().enumerate() {
                    let gib = card.memory as f64 / f64::from(1 << 30);
                    let (name, architecture) = (&card.name, &card.architecture);
                    writeln!(out, "cuda:{at}      {name}, {gib:.0} GiB, {architecture}")?;
                }
            }
            Err(fault) => writeln!(out, "gpu         none: {fault}")?,
        }
        for Found { library, path, version, fault, is_needed } in &libraries {
            let file = library.split(".so").next().unwrap_or(library);
            let version = version.as_deref().unwrap_or("-");
            let place = path.as_deref().unwrap_or("not found");
            writeln!(out, "{file:<12}{version:<9}{place}")?;
            if let Some(fault) = fault {
                let weight = if *is_needed { "needed" } else { "for several GPUs only" };
                writeln!(out, "            {weight}: {fault}")?;
            }
        }
        let none = || "not found; pip install nvidia-cuda-runtime nvidia-cuda-crt".to_owned();
        writeln!(out, "headers     {}", headers.unwrap_or_else(none))?;
        writeln!(out, "mpi         {}", mpi.unwrap_or_else(|| "not found".to_owned()))?;
        if !has_cuda {
            writeln!(out, "This build has no GPU code: cargo build --release --features cuda")?;
        } else if is_ready {
            writeln!(out, "Ready. On a card of a new kind, run `umbra parity` first.")?;
        }
    }
    Ok(if has_cuda && !is_ready { exit::FAILED } else { exit::DONE })
}

/// Where processes on several machines are started from.
fn mpi() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join("mpirun")).find(|at| at.is_file());
    found.map(|at| at.display().to_string())
}
