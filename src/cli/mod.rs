//! One function per verb; the only place that wires.

mod args;
mod bench;
mod check;
mod clean;
mod doctor;
mod ema;
mod exit;
mod export;
mod forward;
mod generate;
mod inspect;
mod limits;
mod parity;
mod probe;
mod run;
mod warm_up;

use crate::stages;
use crate::telemetry::log::{self, Verbosity};
use crate::telemetry::plain::plain_lines;
use crate::telemetry::progress;
use args::{Args, Verb};
use clap::Parser;
use std::io::Write as _;
use std::process::ExitCode;

/// Reads the command line, does what it says, and gives the exit code.
///
/// 0 done, 1 failed, 2 bad recipe or arguments, 3 damaged data or weights, 4 an audit failed, 75 stopped by a
/// signal with a checkpoint saved.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are asked for and go to stdout; the rest is a mistake.
            let code = if error.use_stderr() { exit::BAD_RECIPE } else { exit::DONE };
            // A closed pipe is nobody's fault.
            let _ = match error.use_stderr() {
                true => write!(std::io::stderr(), "{}", plain_lines(&error.render().to_string())),
                false => error.print(),
            };
            return ExitCode::from(code);
        }
    };
    let verbosity = if args.quiet() { Verbosity::Quiet } else { Verbosity::Normal };
    log::init(verbosity);
    if args.quiet() {
        progress::hide();
    }
    let result = match &args.verb {
        Verb::Check(at) => check::check(at),
        Verb::Run(at) => run::run(at, stages::EVALUATE),
        Verb::Ingest(at) => run::run(at, stages::INGEST),
        Verb::Encode(at) => run::run(at, stages::ENCODE),
        Verb::Train(train) => run::run(&train.at, train.stage()),
        Verb::Sample(at) => run::run(at, stages::SAMPLE),
        Verb::Evaluate(at) => run::run(at, stages::EVALUATE),
        Verb::Export(export) => export::export(export),
        Verb::Ema(ema) => ema::ema(ema),
        Verb::Generate(args) => generate::generate(args),
        Verb::Inspect(inspect) => inspect::inspect(inspect),
        Verb::Forward(args) => forward::forward(args),
        Verb::Bench(bench) => bench::bench(bench),
        Verb::Doctor(doctor) => doctor::doctor(doctor),
        Verb::WarmUp(warm_up) => warm_up::warm_up(warm_up),
        Verb::Parity(parity) => parity::parity(parity),
        Verb::Clean(clean) => clean::clean(clean),
        Verb::Open => probe::probe(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            exit::complain(&error);
            ExitCode::from(exit::code(&error))
        }
    }
}
