//! `--set denoiser.train.images=200000`: one field of a recipe, checked like the file itself.

use super::{Recipe, RecipeError, ron_json};
use serde_json::Value;

/// Applies every `path=value` in turn.
///
/// A path goes through sections by dots, through an enum's variant to its fields without naming it, and into
/// lists by `[0]`. The value is RON.
pub(super) fn apply(recipe: Recipe, assignments: &[String]) -> Result<Recipe, RecipeError> {
    assignments.iter().try_fold(recipe, |recipe, assignment| {
        set(&recipe, assignment)
            .map_err(|what| RecipeError::Override { assignment: assignment.clone(), what })
    })
}

fn set(recipe: &Recipe, assignment: &str) -> Result<Recipe, String> {
    let (path, value) = assignment
        .split_once('=')
        .ok_or("expected a path, an equals sign and a value, as in denoiser.train.images=200000")?;
    let value = ron_json::parse(value)?;
    let mut tree = serde_json::to_value(recipe).expect("a recipe is plain data");
    *find(&mut tree, path.trim())? = value;
    serde_json::from_value(tree).map_err(|error| error.to_string())
}

fn find<'a>(tree: &'a mut Value, path: &str) -> Result<&'a mut Value, String> {
    let mut node = tree;
    for step in steps(path)? {
        node = match step {
            Step::Field(name) => field(node, &name)?,
            Step::Index(index) => {
                let list = inside(node).as_array_mut().ok_or("a `[` follows what is not a list")?;
                let length = list.len();
                let missing = format!("no entry [{index}]; the list has {length}, numbered from 0");
                list.get_mut(index).ok_or(missing)?
            }
        };
    }
    Ok(node)
}

/// What is inside of `node` if it is an enum's variant, and `node` otherwise.
fn inside(node: &mut Value) -> &mut Value {
    match is_variant(node) {
        true => {
            node.as_object_mut().and_then(|map| map.values_mut().next()).expect("has one entry")
        }
        false => node,
    }
}

fn is_variant(node: &Value) -> bool {
    node.as_object().is_some_and(|map| {
        map.len() == 1
            && map.iter().all(|(key, inner)| {
                key.starts_with(char::is_uppercase) && (inner.is_object() || inner.is_array())
            })
    })
}

/// The field `name` of `node`, looking through enums' variants on the way.
fn field<'a>(mut node: &'a mut Value, name: &str) -> Result<&'a mut Value, String> {
    while node.get(name).is_none() && is_variant(node) {
        node = inside(node);
    }
    let known: Vec<String> =
        node.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    node.get_mut(name).ok_or_else(|| match known.is_empty() {
        true => format!("no field `{name}`: what comes before it has no fields"),
        false => format!("no field `{name}`; expected one of {}", known.join(", ")),
    })
}

enum Step {
    Field(String),
    Index(usize),
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() {
            return Err(format!("`{path}` is not a path; expected names with dots between them"));
        }
        steps.push(Step::Field(name.to_owned()));
        while let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').ok_or("a `[` has no `]`")?;
            steps.push(Step::Index(
                index.parse().map_err(|_| format!("`{index}` is not a list position"))?,
            ));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(format!("unexpected `{rest}` after `]`"));
        }
    }
    Ok(steps)
}
