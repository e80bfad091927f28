//! The tools: one for each operation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::{
    operations::{self, Body, Description, EnterInstance, Operation as _, Reach, RunTask},
    store::Effect,
};

/// Verbs of operations that change something, but take nothing away. Any other change is presented as destructive.
const ADDITIVE: [&str; 14] = [
    "add", "allow", "create", "detached", "enable", "install", "link", "login", "mount", "offer", "on", "resume",
    "start", "update",
];

/// The tools, and the operations that they run.
pub(super) struct Tools {
    pub(super) all: Vec<Tool>,
    operations: BTreeMap<String, Description>,
}

impl Tools {
    /// Those of this version of the server.
    pub(super) fn get() -> &'static Self {
        static TOOLS: LazyLock<Tools> = LazyLock::new(Tools::new);
        &TOOLS
    }

    /// The operation of a tool.
    pub(super) fn operation(&self, tool: &str) -> Option<&Description> {
        self.operations.get(tool)
    }

    fn new() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let descriptions = operations::all(&mut generator);
        let definitions = generator.take_definitions(true);
        let (mut all, mut operations) = (Vec::new(), BTreeMap::new());
        for description in descriptions.into_iter().filter(|it| without_tool(it).is_none()) {
            let tool = tool(&description, &definitions);
            operations.insert(tool.name.clone().into_owned(), description);
            all.push(tool);
        }
        Self { all, operations }
    }
}

/// Why an operation has no tool, if it has none.
fn without_tool(description: &Description) -> Option<&'static str> {
    match description.reach {
        Reach::SshOnly(_) if [RunTask::NAME, EnterInstance::NAME].contains(&description.name) => {
            Some("it is connected to the standard streams or the terminal of the caller")
        }
        Reach::Http(endpoint) if endpoint.body == Body::File => Some("its input is a file"),
        Reach::Http(endpoint) if endpoint.sends_file => Some("its output is a file"),
        Reach::SshOnly(_) | Reach::Http(_) => None,
    }
}

/// The name of an operation's tool: letters, digits, `_`, `-` and `.` (2025-11-25, "Tool Names").
fn tool_name(operation: &str) -> String {
    operation.replace(':', "_")
}

fn tool(description: &Description, definitions: &Map<String, Value>) -> Tool {
    let mut schema = input_schema(description.input.as_value(), definitions);
    let about = schema.remove("description");
    let about = about.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
    let verb = description.name.rsplit(':').next().unwrap_or_default();
    let annotations = match description.effect {
        Effect::Read => ToolAnnotations::with_title(description.name).read_only(true),
        Effect::Change => {
            ToolAnnotations::with_title(description.name).read_only(false).destructive(!ADDITIVE.contains(&verb))
        }
    };
    Tool::new(tool_name(description.name), about, Arc::new(schema)).with_annotations(annotations.open_world(false))
}

/// The schema of an input: an object with the definitions to which it refers, and no others.
fn input_schema(input: &Value, definitions: &Map<String, Value>) -> JsonObject {
    let root = referred(input).and_then(|name| definitions.get(name)).unwrap_or(input);
    let mut schema = root.as_object().cloned().unwrap_or_default();
    let mut needed = BTreeSet::new();
    let mut unread = vec![root];
    while let Some(value) = unread.pop() {
        if let Some(name) = referred(value)
            && let Some((name, definition)) = definitions.get_key_value(name)
            && needed.insert(name)
        {
            unread.push(definition);
        }
        match value {
            Value::Object(fields) => unread.extend(fields.values()),
            Value::Array(items) => unread.extend(items),
            _ => {}
        }
    }
    if !needed.is_empty() {
        let needed: Map<_, _> = needed.into_iter().map(|name| (name.clone(), definitions[name].clone())).collect();
        schema.insert("$defs".to_owned(), Value::Object(needed));
    }
    schema
}

/// The definition to which a schema refers.
fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptions() -> Vec<Description> {
        operations::all(&mut SchemaSettings::draft2020_12().into_generator())
    }

    #[test]
    fn all_operations_have_tools_but_those_with_a_reason() {
        let descriptions = descriptions();
        let without: Vec<_> = descriptions.iter().filter_map(|it| Some((it.name, without_tool(it)?))).collect();
        let streams = "it is connected to the standard streams or the terminal of the caller";
        let expected = [
            ("run", streams),
            ("enter", streams),
            ("storage:export", "its output is a file"),
            ("storage:import", "its input is a file"),
        ];
        assert_eq!(without, expected);
        let tools = Tools::get();
        assert_eq!(tools.all.len(), descriptions.len() - expected.len());
        assert_eq!(tools.operations.len(), tools.all.len(), "two operations have tools of one name");
        assert_eq!(tools.operation("ps_scale").unwrap().name, "ps:scale");
    }

    #[test]
    fn each_tool_is_valid_and_described() {
        for tool in &Tools::get().all {
            let name = &tool.name;
            let valid = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            assert!(name.len() <= 64 && name.chars().all(valid), "{name}");
            assert!(
                tool.description.as_ref().is_some_and(|text| text.ends_with('.')),
                "{name}: {:?}",
                tool.description
            );
            assert_eq!(tool.input_schema["type"], "object", "{name}");
            assert_refers_within(name, &Value::Object((*tool.input_schema).clone()), &tool.input_schema);
        }
    }

    /// Fails if a schema refers to something that it does not contain.
    fn assert_refers_within(tool: &str, schema: &Value, root: &JsonObject) {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.strip_prefix("#/$defs/").unwrap_or_else(|| panic!("{tool}: {reference}"));
            assert!(root["$defs"].get(name).is_some(), "{tool}: {reference}");
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|inner| assert_refers_within(tool, inner, root)),
            Value::Array(items) => items.iter().for_each(|inner| assert_refers_within(tool, inner, root)),
            _ => {}
        }
    }

    #[test]
    fn a_client_is_told_what_only_reads_and_what_takes_away() {
        let hints = |name: &str| {
            let tool = Tools::get().all.iter().find(|tool| tool.name == name).unwrap();
            let annotations = tool.annotations.as_ref().unwrap();
            (annotations.read_only_hint, annotations.destructive_hint)
        };
        assert_eq!(hints("apps_list"), (Some(true), None));
        assert_eq!(hints("apps_create"), (Some(false), Some(false)));
        for destructive in ["apps_destroy", "ps_scale", "config_unset", "tokens_revoke", "storage_destroy", "gc"] {
            assert_eq!(hints(destructive), (Some(false), Some(true)), "{destructive}");
        }
        let verbs: Vec<_> = descriptions().iter().map(|it| it.name.rsplit(':').next().unwrap()).collect();
        for verb in ADDITIVE {
            assert!(verbs.contains(&verb), "no operation has the verb {verb}");
        }
    }
}
