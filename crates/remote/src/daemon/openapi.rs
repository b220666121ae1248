//! The interface as an OpenAPI document, made from the types and the routes.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, ReplaceBoolSchemas, Transform as _};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use super::api::{ROUTES, Route, SchemaOf};
use super::wire::{Ack, Command, CommandMessage, Hello, Problem, ShotHead, StateMessage};

/// Makes `{}` of `true`, which says the same, any value: generators of clients know no `true` as a schema.
fn without_true() -> ReplaceBoolSchemas {
    let mut transform = ReplaceBoolSchemas::default();
    transform.skip_additional_properties = true;
    transform
}

/// Makes one list of names of names with a description each, which generators of clients take for types of their own.
fn as_enum(schema: &mut Schema) {
    let Some(choices) = schema.get("oneOf").and_then(Json::as_array) else { return };
    let (mut names, mut words) = (Vec::new(), schema.get("description").and_then(Json::as_str).unwrap_or_default().to_owned());
    for choice in choices {
        let of_choice: Vec<Json> = match (choice.get("const"), choice.get("enum").and_then(Json::as_array)) {
            (Some(name), None) => vec![name.clone()],
            (None, Some(several)) => several.clone(),
            _ => return,
        };
        if let (Some(Json::String(what)), [Json::String(name)]) = (choice.get("description"), &of_choice[..]) {
            words += &format!("\n\n`{name}`: {what}");
        }
        names.extend(of_choice);
    }
    if names.iter().all(Json::is_string) {
        schema.remove("oneOf");
        schema.insert("type".to_owned(), "string".into());
        schema.insert("enum".to_owned(), names.into());
        schema.insert("description".to_owned(), words.trim_start().into());
    }
}

/// OpenAPI 3.1. Messages of websockets, of which OpenAPI knows nothing, stand among its schemas.
pub(super) fn document(version: &str) -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.transforms.push(Box::new(without_true()));
        settings.transforms.push(Box::new(RecursiveTransform(as_enum)));
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Json> = Map::new();
    for route in ROUTES {
        let path = route.path.replace("*}", "}");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method.to_lowercase()] = operation(route, &mut generator);
    }
    let sockets = [
        generator.subschema_for::<Hello>(),
        generator.subschema_for::<StateMessage<'static>>(),
        generator.subschema_for::<ShotHead>(),
        generator.subschema_for::<Ack>(),
        generator.subschema_for::<Command>(),
        generator.subschema_for::<CommandMessage>(),
    ];
    drop(sockets);
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Sinew's daemon", "version": version, "description": "Numbers are SI: radians, metres, seconds." },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Json {
    let content = match route.answers {
        Ok(schema) => json!({ "application/json": { "schema": plain(schema, generator) } }),
        Err(kind) => json!({ kind: { "schema": { "type": "string", "format": "binary" } } }),
    };
    let problem =
        json!({ "description": "An error", "content": { "application/json": { "schema": generator.subschema_for::<Problem>() } } });
    let names = route.path.split('{').skip(1).filter_map(|rest| rest.split(['}', '*']).next());
    let mut parameters: Vec<Json> =
        names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect();
    if route.path.ends_with("/log") {
        parameters.push(json!({ "name": "after", "in": "query", "schema": { "type": "integer", "minimum": 0 } }));
    }
    if route.needs_lease {
        parameters.push(json!({ "name": "Sinew-Lease", "in": "header", "schema": { "type": "string" } }));
    }
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": { "200": { "description": "Done", "content": content }, "default": problem },
        "security": if route.role.is_some() { json!([{ "token": [] }]) } else { json!([]) },
    });
    if let Some(takes) = route.takes {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": plain(takes, generator) } } });
    }
    operation
}

/// The schema of a body, where it is used.
fn plain(of: SchemaOf, generator: &mut SchemaGenerator) -> Json {
    let mut schema = of(generator);
    without_true().transform(&mut schema);
    schema.into()
}

/// `get_datasets_dataset` for `GET /api/v1/datasets/{dataset}`.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1/");
    let words: Vec<&str> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{}_{}", route.method.to_lowercase(), words.join("_"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn references<'a>(value: &'a Json, found: &mut BTreeSet<&'a str>) {
        match value {
            Json::Object(map) => {
                found.extend(map.get("$ref").and_then(Json::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Json::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    fn has_no_true(value: &Json) -> bool {
        const FLAGS: [&str; 3] = ["required", "default", "additionalProperties"];
        match value {
            Json::Object(map) => map.iter().all(|(key, value)| (!value.is_boolean() || FLAGS.contains(&&**key)) && has_no_true(value)),
            Json::Array(list) => list.iter().all(has_no_true),
            _ => true,
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_operation_has_its_name() {
        let document = document("1.2.3");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.contains("#/components/schemas/Work") && found.len() > 10, "{found:?}");
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        let role = &document["components"]["schemas"]["Role"];
        assert_eq!(role["enum"], json!(["look", "operate", "administer"]));
        assert!(role["oneOf"].is_null() && role["description"].as_str().unwrap().contains("`administer`: Let others in."), "{role}");
        assert!(has_no_true(&document["paths"]) && has_no_true(&document["components"]), "a schema that is true");
        let operations = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let ids: Vec<&str> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ROUTES.len(), "{ids:?}");
        for name in ["Hello", "Command", "CommandMessage", "ShotHead", "State", "Problem"] {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
