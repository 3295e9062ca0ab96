//! integration tests

mod models;
mod models_speed;
