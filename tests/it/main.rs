//! What crosses modules, touches files or runs a loop.

// Clippy knows tests by their attribute; the functions they share have none.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod adversary;
mod artifact;
mod averages;
mod binary;
mod cli;
mod damage;
mod docs;
mod drawing;
mod encode;
mod export;
mod fault;
mod files;
mod foreign;
mod generate;
mod hostile;
mod ingest;
mod interrupt;
mod kill;
mod layers;
mod loader;
mod masks;
mod metric_speed;
mod models;
mod models_speed;
mod nvidia;
mod recipes;
mod reproducible;
mod scale;
mod schedulers;
mod steering;
mod store;
mod telemetry;
mod tiny;
mod transformer;
mod unrun;
mod walk;
mod weights;

mod wrong_recipes;
