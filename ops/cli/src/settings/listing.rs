//! Every effective value with its key and its source, for `cairn config check`.

use serde::Serialize;
use serde_json::Value;

/// One effective value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Effective {
    /// The key, its sections parted by dots.
    pub key: String,
    /// The value.
    pub value: Value,
    /// `default`, a line of the file, a variable, or a flag.
    pub source: String,
}

/// Flattens settings into values, asking for the source of each.
pub fn effective(settings: &impl Serialize, source: impl Fn(&str) -> String) -> Vec<Effective> {
    let tree = serde_json::to_value(settings).expect("settings are plain data with text keys");
    let mut all = Vec::new();
    collect(String::new(), tree, &source, &mut all);
    all
}

fn collect(key: String, value: Value, source: &impl Fn(&str) -> String, all: &mut Vec<Effective>) {
    let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                collect(join(&name), field, source, all);
            }
        }
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            for (index, element) in elements.into_iter().enumerate() {
                collect(join(&index.to_string()), element, source, all);
            }
        }
        value => all.push(Effective { source: source(&key), key, value }),
    }
}
