//! `deploy.json`, which the newer kits put beside the manifest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::environment::Variables;
use crate::manifest::is_variable_name;
use crate::papers::DEPLOY;
use crate::problem::{Problem, Problems, note, shown};

/// Of its fields only the environment is acted on; ports are the runtime's to give.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeployDescriptor {
    pub(crate) environment: Variables,
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(default)]
    environment: Option<BTreeMap<String, Json>>,
}

impl DeployDescriptor {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problems> {
        let raw: RawDescriptor = serde_json::from_slice(bytes).map_err(|error| {
            let place = format!("{DEPLOY}:{}:{}", error.line(), error.column());
            Problem::new(place, error.to_string())
        })?;
        let mut environment = Variables::default();
        let mut problems = vec![];
        for (name, value) in raw.environment.unwrap_or_default() {
            match text_of(&name, value) {
                Ok(text) => environment.insert(name, text),
                Err(reason) => {
                    let message = format!("environment.{}: {reason}", shown(&name));
                    note(&mut problems, Problem::new(DEPLOY, message));
                }
            }
        }
        if problems.is_empty() {
            Ok(Self { environment })
        } else {
            Err(Problems(problems))
        }
    }
}

fn text_of(name: &str, value: Json) -> Result<String, &'static str> {
    if !is_variable_name(name) {
        return Err("not a variable's name");
    }
    let text = match value {
        Json::String(text) => text,
        Json::Null => String::new(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::Array(_) => return Err("expected text, found a list"),
        Json::Object(_) => return Err("expected text, found a mapping"),
    };
    if text.contains('\0') {
        return Err("contains a NUL character");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_truth_values_are_text() {
        let bytes = br#"{"expose": ["rest"], "ports": {"rest": 8080}, "environment": {"PORT": 8080, "ON": true, "E": null}}"#;
        let deploy = DeployDescriptor::parse(bytes).expect("valid");
        let pairs: Vec<_> = deploy.environment.iter().collect();
        assert_eq!(pairs, [("E", ""), ("ON", "true"), ("PORT", "8080")]);
    }

    #[test]
    fn mistakes_are_named_with_their_variable() {
        let bytes = br#"{"environment": {"A": [], "B=C": "x", "N": "a\u0000b"}}"#;
        let Problems(problems) = DeployDescriptor::parse(bytes).expect_err("three mistakes");
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "deploy.json: environment.A: expected text, found a list",
                "deploy.json: environment.B=C: not a variable's name",
                "deploy.json: environment.N: contains a NUL character",
            ]
        );
        let Problems(problems) = DeployDescriptor::parse(b"{\n  nonsense").expect_err("not JSON");
        assert_eq!(problems[0].place, "deploy.json:2:3");
    }
}
