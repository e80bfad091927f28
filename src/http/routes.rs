//! The routes: each operation at its paths, as the registry says.

use std::{collections::BTreeMap, sync::Arc};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::operations::{self, Endpoint, Method, Reach, Runner};

/// An operation at a path.
pub(super) struct Route {
    /// Name of the operation.
    pub(super) name: &'static str,
    pub(super) endpoint: Endpoint,
    pub(super) path: &'static str,
    pub(super) runner: Runner,
    /// The fields of the input that a request has, and how the text of each is read in a path or query.
    pub(super) kinds: BTreeMap<String, Kind>,
}

/// Whether a field has no meaning at this path: one that names an app where the operation is about all, or says that it is about
/// all where it is about one.
pub(super) fn is_hidden(field: &str, endpoint: &Endpoint, path: &str) -> bool {
    let has_app = |path: &str| Endpoint::fields_of(path).any(|field| field == "app");
    match field {
        "app" => !has_app(path) && endpoint.paths.iter().any(|path| has_app(path)),
        "all" => has_app(path),
        // It chooses among all apps.
        "stack" => has_app(path) && endpoint.paths.len() > 1,
        _ => false,
    }
}

/// All routes.
pub(super) struct Routes(Vec<Arc<Route>>);

impl Routes {
    pub(super) fn new() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let all = operations::all(&mut generator);
        let definitions = generator.take_definitions(true);
        let mut routes = Vec::new();
        for operation in all {
            let Reach::Http(endpoint) = operation.reach else { continue };
            for path in endpoint.paths {
                let mut kinds = kinds(operation.input.as_value(), &definitions);
                kinds.retain(|field, _| !is_hidden(field, &endpoint, path));
                let route = Route { name: operation.name, endpoint, path, runner: operation.runner, kinds };
                routes.push(Arc::new(route));
            }
        }
        Self(routes)
    }

    /// The routes of each path.
    pub(super) fn by_path(&self) -> BTreeMap<&'static str, Vec<Arc<Route>>> {
        let mut by_path: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for route in &self.0 {
            by_path.entry(route.path).or_default().push(Arc::clone(route));
        }
        by_path
    }

    /// The route that reads what is at a path.
    pub(super) fn reader_of(&self, path: &str) -> Option<&Arc<Route>> {
        let reads = |route: &&Arc<Route>| route.path == path && route.endpoint.method == Method::Get;
        self.0.iter().find(reads).filter(|route| !route.endpoint.sends_file)
    }
}

/// The kinds of the fields of an input.
fn kinds(input: &Value, definitions: &Map<String, Value>) -> BTreeMap<String, Kind> {
    let input = resolved(input, definitions);
    let properties = input.get("properties").and_then(Value::as_object);
    let kind = |(name, schema): (&String, &Value)| (name.clone(), Kind::of(schema, definitions));
    properties.into_iter().flatten().map(kind).collect()
}

/// The schema to which another refers.
pub(super) fn resolved<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
    name.and_then(|name| definitions.get(name)).map_or(schema, |schema| resolved(schema, definitions))
}

/// How the text of a field is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
    List(Box<Kind>),
}

impl Kind {
    fn of(schema: &Value, definitions: &Map<String, Value>) -> Self {
        let schema = resolved(schema, definitions);
        if let Some(variants) = schema.get("anyOf").and_then(Value::as_array) {
            let is_null = |variant: &&Value| variant.get("type").and_then(Value::as_str) == Some("null");
            let found = variants.iter().find(|variant| !is_null(variant));
            return found.map_or(Self::Text, |variant| Self::of(variant, definitions));
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        match types.iter().find(|name| **name != "null") {
            Some(&"boolean") => Self::Boolean,
            Some(&"integer") => Self::Integer,
            Some(&"number") => Self::Number,
            Some(&"array") => {
                let items = schema.get("items").map_or(Self::Text, |items| Self::of(items, definitions));
                Self::List(Box::new(items))
            }
            _ => Self::Text,
        }
    }

    /// The value of a text; what cannot be read so is left as a text, which the operation refuses by its rule.
    pub(super) fn value(&self, text: String) -> Value {
        let read = match self {
            Self::Boolean => text.parse().ok().map(Value::Bool),
            Self::Integer => text
                .parse()
                .ok()
                .map(|number: i64| number.into())
                .or_else(|| text.parse().ok().map(|number: u64| number.into())),
            Self::Number => text.parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number),
            Self::Text => None,
            Self::List(kind) => return Value::Array(vec![kind.value(text)]),
        };
        read.unwrap_or(Value::String(text))
    }
}
