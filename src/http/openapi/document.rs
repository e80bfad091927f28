//! Makes the OpenAPI document.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    http::{
        accept::Accept,
        problem::ProblemDocument,
        routes::{self, Routes},
        running::OperationDocument,
    },
    operations::{self, Body, Description, Endpoint, Method, Pages, Reach},
    properties::matches_snapshot,
};

const DESCRIPTION: &str = "Everything that can be asked of a paas server. The text of each operation, its rights and its \
    audit entry are those of the command of the same name over SSH. Changes that take long are answered with 202 and the \
    address of an operation, with their result if they end at once or within `Prefer: wait=SECONDS`, or with a stream \
    (`Accept: text/event-stream` or `application/x-ndjson`).";

#[test]
fn the_committed_document_is_that_of_the_operations() {
    matches_snapshot("docs/openapi.json", &(serde_json::to_string_pretty(&document()).unwrap() + "\n"));
}

#[test]
fn every_operation_is_reached_over_http_but_those_with_a_reason() {
    let mut only_ssh = Vec::new();
    let mut paths = BTreeSet::new();
    for operation in operations::all(&mut SchemaSettings::draft2020_12().into_generator()) {
        match operation.reach {
            Reach::SshOnly(reason) => {
                assert!(reason.len() > 20, "{} needs a reason", operation.name);
                only_ssh.push(operation.name);
            }
            Reach::Http(endpoint) => {
                for path in endpoint.paths {
                    assert!(paths.insert((*path, endpoint.method)), "two operations are at {path}");
                }
            }
        }
    }
    assert_eq!(
        only_ssh,
        ["apps:exists", "run", "enter"],
        "an operation that only SSH reaches is listed here on purpose"
    );
}

#[test]
fn the_fields_of_paths_and_bodies_are_those_of_the_inputs() {
    for routes in Routes::new().by_path().values() {
        for route in routes {
            let known = |field: &str| assert!(route.kinds.contains_key(field), "{} has no field {field}", route.name);
            Endpoint::fields_of(route.path).for_each(known);
            match route.endpoint.body {
                Body::Field(field) => known(field),
                Body::None | Body::Fields | Body::File | Body::FileOrFields => {}
            }
            if let Pages::Before(_) = route.endpoint.pages {
                ["num", "before"].into_iter().for_each(known);
            }
        }
    }
}

fn document() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let all = operations::all(&mut generator);
    generator.subschema_for::<ProblemDocument>();
    generator.subschema_for::<OperationDocument>();
    let definitions = generator.take_definitions(true);
    let mut paths: Map<String, Value> = Map::new();
    let readers: BTreeSet<_> = all.iter().flat_map(readable_paths).collect();
    for operation in &all {
        let Reach::Http(endpoint) = operation.reach else { continue };
        for (index, path) in endpoint.paths.iter().enumerate() {
            let described = described(operation, endpoint, path, index, readers.contains(path), &definitions);
            let item = paths.entry(format!("/v1{path}")).or_insert_with(|| json!({}));
            item[endpoint.method.as_str().to_ascii_lowercase()] = described;
        }
    }
    paths.insert("/v1/operations/{id}".to_owned(), background());
    paths.sort_keys();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "paas",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "from tokens:create" } },
            "responses": {
                "Problem": {
                    "description": "What is wrong, and what to do (RFC 9457).",
                    "content": { "application/problem+json": { "schema": reference("ProblemDocument") } },
                },
            },
        },
    });
    let mut used = BTreeSet::new();
    collect(&document, &definitions, &mut used);
    let mut schemas: Map<String, Value> = definitions.into_iter().filter(|(name, _)| used.contains(name)).collect();
    schemas.sort_keys();
    document["components"]["schemas"] = Value::Object(schemas);
    bound(&mut document);
    simplify(&mut document);
    document
}

/// Writes schemas in the forms that programs know best that generate clients: alternatives that are fixed texts as an `enum`, with
/// what each means in the description, and the one pattern of the names of a map as `propertyNames`.
fn simplify(value: &mut Value) {
    let alternatives = value.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> =
        alternatives.iter().filter_map(|variant| variant.get("const").and_then(Value::as_str)).collect();
    if !names.is_empty() && names.len() == alternatives.len() {
        let meaning = |(variant, name): (&Value, &&str)| {
            variant.get("description").and_then(Value::as_str).map(|text| format!("`{name}`: {text}"))
        };
        let meanings: Vec<_> = alternatives.iter().zip(&names).filter_map(meaning).collect();
        let about = value.get("description").and_then(Value::as_str).unwrap_or_default();
        let description = format!("{about}\n\n{}", meanings.join("\n\n"));
        *value = json!({ "type": "string", "enum": names, "description": description.trim() });
        return;
    }
    if let Some(object) = value.as_object_mut()
        && let Some(Value::Object(patterns)) = object.get("patternProperties")
        && let [(pattern, schema)] = &patterns.iter().collect::<Vec<_>>()[..]
    {
        let (names, values) = (json!({ "pattern": pattern }), (*schema).clone());
        object.remove("patternProperties");
        object.insert("propertyNames".to_owned(), names);
        object.insert("additionalProperties".to_owned(), values);
    }
    match value {
        Value::Object(object) => object.values_mut().for_each(simplify),
        Value::Array(all) => all.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// Adds the maximum that the format of an integer tells, for those who do not know the format.
fn bound(value: &mut Value) {
    if let Value::Object(object) = value {
        let maximum = match object.get("format").and_then(Value::as_str) {
            Some("uint16") => Some(u64::from(u16::MAX)),
            Some("uint32") => Some(u64::from(u32::MAX)),
            Some("uint" | "uint64" | "int64") => i64::MAX.try_into().ok(),
            _ => None,
        };
        if let Some(maximum) = maximum
            && !object.contains_key("maximum")
        {
            object.insert("maximum".to_owned(), maximum.into());
        }
        object.values_mut().for_each(bound);
    } else if let Value::Array(all) = value {
        all.iter_mut().for_each(bound);
    }
}

fn readable_paths(operation: &Description) -> impl Iterator<Item = &'static str> {
    let paths: &[&str] = match operation.reach {
        Reach::Http(endpoint) if endpoint.method == Method::Get && !endpoint.sends_file => endpoint.paths,
        Reach::Http(_) | Reach::SshOnly(_) => &[],
    };
    paths.iter().copied()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The names of all definitions to which a value refers.
fn collect(value: &Value, definitions: &Map<String, Value>, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let name =
                object.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/components/schemas/"));
            if let Some(name) = name
                && used.insert(name.to_owned())
            {
                collect(&definitions[name], definitions, used);
            }
            object.values().for_each(|value| collect(value, definitions, used));
        }
        Value::Array(all) => all.iter().for_each(|value| collect(value, definitions, used)),
        _ => {}
    }
}

fn content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// A schema without the variant null, which a path or a query cannot have.
fn not_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(variants)) = schema.get_mut("anyOf") {
        variants.retain(|variant| variant.get("type").and_then(Value::as_str) != Some("null"));
        if let [only] = &variants[..] {
            let only = only.clone();
            let object = schema.as_object_mut().unwrap();
            object.remove("anyOf");
            object.extend(only.as_object().unwrap().clone());
        }
    }
    if let Some(object) = schema.as_object_mut()
        && object.get("default").is_some_and(Value::is_null)
    {
        object.remove("default");
    }
    schema
}

fn described(
    operation: &Description,
    endpoint: Endpoint,
    path: &str,
    index: usize,
    has_reader: bool,
    definitions: &Map<String, Value>,
) -> Value {
    let input = routes::resolved(operation.input.as_value(), definitions);
    let empty = Map::new();
    let properties = input.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let required: Vec<&str> =
        input.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let in_path: Vec<_> = Endpoint::fields_of(path).collect();
    let mut parameters = Vec::new();
    for name in &in_path {
        let schema = not_null(&properties[*name]);
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    let is_shown = |name: &str| !routes::is_hidden(name, &endpoint, path);
    let properties: Map<String, Value> = properties.clone().into_iter().filter(|(name, _)| is_shown(name)).collect();
    let rest = properties.iter().filter(|(name, _)| !in_path.contains(&name.as_str()));
    let paged = endpoint.pages != Pages::One;
    let in_query = |name: &str| match endpoint.body {
        Body::None | Body::File => !(matches!(endpoint.pages, Pages::Before(_)) && ["num", "before"].contains(&name)),
        Body::Field(field) => name != field,
        Body::Fields | Body::FileOrFields => false,
    };
    for (name, schema) in rest.clone().filter(|(name, _)| in_query(name)) {
        let required = required.contains(&name.as_str());
        parameters.push(json!({ "name": name, "in": "query", "required": required, "schema": not_null(schema) }));
    }
    if paged {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
        parameters.push(json!({ "name": "limit", "in": "query", "description": "Rows of a page.", "schema": limit }));
        let about = "From the Link header of the page before.";
        let schema = match endpoint.pages {
            Pages::Before(_) => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
            Pages::One | Pages::By(_) => json!({ "type": "string" }),
        };
        parameters.push(json!({ "name": "cursor", "in": "query", "description": about, "schema": schema }));
    }
    if endpoint.method == Method::Post {
        let about = "A request that is sent again with the same key is not done again, but gets the same response.";
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" });
        parameters.push(json!({ "name": "Idempotency-Key", "in": "header", "description": about, "schema": schema }));
    } else if endpoint.method != Method::Get && has_reader {
        let about = "The change is made only if the resource still has this ETag.";
        let schema = json!({ "type": "string", "pattern": "^\"[!#-~]*\"$" });
        parameters.push(json!({ "name": "If-Match", "in": "header", "description": about, "schema": schema }));
    }
    let (noun, _) = operation.name.split_once(':').unwrap_or((operation.name, ""));
    let id = operation.name.replace([':', '-'], "_");
    let suffix = path.trim_start_matches('/').replace(['{', '}'], "").replace(['/', '-'], "_");
    let about = input.get("description").and_then(Value::as_str).unwrap_or_default();
    let mut described = json!({
        "operationId": if index == 0 { id } else { format!("{id}_at_{suffix}") },
        "tags": [noun],
        "summary": operation.name,
        "description": format!("{about}\n\nNeeds the right `{}`.", json!(operation.right).as_str().unwrap()),
        "parameters": parameters,
        "responses": responses(operation, endpoint),
    });
    if let Some(body) = body(endpoint, path, input, &properties, &required, &in_path) {
        described["requestBody"] = body;
    }
    described
}

fn body(
    endpoint: Endpoint,
    path: &str,
    input: &Value,
    properties: &Map<String, Value>,
    required: &[&str],
    in_path: &[&str],
) -> Option<Value> {
    let fields = || {
        let mut rest: Map<String, Value> = properties
            .iter()
            .filter(|(name, _)| !in_path.contains(&name.as_str()))
            .map(|(name, schema)| (name.clone(), schema.clone()))
            .collect();
        let mut required: Vec<_> = required.iter().copied().filter(|name| !in_path.contains(name)).collect();
        // Without an app, the operation must be told that it is about all.
        if routes::is_hidden("app", &endpoint, path) && rest.contains_key("all") {
            rest.insert("all".to_owned(), json!({ "const": true }));
            required.push("all");
        }
        (!rest.is_empty()).then(|| {
            let mut schema = json!({
                "type": "object", "properties": rest, "required": required, "additionalProperties": false,
            });
            if let Some(any) = input.get("anyOf") {
                schema["anyOf"] = any.clone();
            }
            (schema, !required.is_empty() || input.get("anyOf").is_some())
        })
    };
    let file = || json!({ "schema": { "type": "string", "format": "binary" } });
    match endpoint.body {
        Body::None => None,
        Body::Fields => fields().map(|(schema, required)| json!({ "required": required, "content": content(&schema) })),
        Body::Field(field) => Some(json!({ "required": true, "content": content(&properties[field]) })),
        Body::File => Some(json!({ "required": true, "content": { "application/octet-stream": file() } })),
        Body::FileOrFields => {
            let mut content = content(&fields()?.0);
            content["application/octet-stream"] = file();
            Some(json!({ "required": true, "content": content }))
        }
    }
}

fn responses(operation: &Description, endpoint: Endpoint) -> Value {
    let output = operation.output.as_value();
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    if endpoint.sends_file {
        let file = json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } });
        return json!({ "200": { "description": "A tar.", "content": file }, "default": problem });
    }
    let result = if operation.follows { json!({ "type": "array", "items": output }) } else { output.clone() };
    let mut success = json!({ "description": "The result.", "content": content(&result) });
    if endpoint.long || endpoint.method == Method::Get {
        for kind in [Accept::EVENTS, Accept::NDJSON] {
            success["content"][kind] = json!({ "schema": { "type": "string" } });
        }
    }
    if endpoint.method == Method::Get {
        success["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
        if endpoint.pages != Pages::One {
            success["headers"]["Link"] =
                json!({ "description": "The next page (RFC 8288).", "schema": { "type": "string" } });
        }
    }
    let mut responses = json!({});
    responses[if endpoint.creates { "201" } else { "200" }] = success;
    if endpoint.long {
        responses["202"] = json!({
            "description": "It goes on; its state is at `Location`.",
            "headers": { "Location": { "schema": { "type": "string" } } },
            "content": content(&reference("OperationDocument")),
        });
    }
    responses["default"] = problem;
    responses
}

/// The paths of operations that take long.
fn background() -> Value {
    let id = json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } });
    let document = content(&reference("OperationDocument"));
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let mut states = document.clone();
    for kind in [Accept::EVENTS, Accept::NDJSON] {
        states[kind] = json!({ "schema": { "type": "string" } });
    }
    json!({
        "parameters": [id],
        "get": {
            "operationId": "operations_show",
            "tags": ["operations"],
            "summary": "Show an operation that takes long",
            "description": "Its state, and its result for 24 hours. As a stream, its lines from the beginning, and its result.",
            "responses": { "200": { "description": "Its state.", "content": states }, "default": problem },
        },
        "delete": {
            "operationId": "operations_cancel",
            "tags": ["operations"],
            "summary": "Cancel an operation that takes long",
            "description": "As Ctrl-C cancels the command of the same name. What is past its point of no return completes.",
            "responses": { "202": { "description": "It was asked to end.", "content": document }, "default": problem },
        },
    })
}
