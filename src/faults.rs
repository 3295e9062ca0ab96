//! What is wrong with a recipe, in one dialect: `<path> is <value>; expected <what>`, with a path that `--set` takes.
//!
//! A section tells its faults by the names of its own fields; who holds the section puts its place before them
//! ([`within`]).

use std::fmt::Display;

/// The fault of `field`, unless what is `expected` of it `holds`.
pub fn demand(
    holds: bool,
    field: &str,
    value: impl Display,
    expected: impl Display,
) -> Option<String> {
    (!holds).then(|| format!("{field} is {value}; expected {expected}"))
}

/// The `faults` of a part, as the whole tells them: `place` stands before each path.
pub fn within(
    place: &str,
    faults: impl IntoIterator<Item = String>,
) -> impl Iterator<Item = String> {
    faults.into_iter().map(move |fault| format!("{place}.{fault}"))
}
