//! Fields of a JSON answer as a person reads them: what is absent is a dash or an empty list.

use serde_json::Value;

/// The entries of a list.
pub(crate) fn array<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A field as text; the words of a list with commas between them.
pub(crate) fn text(of: &Value, name: &str) -> String {
    match of.get(name) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Array(_)) => words(of, name, ","),
        Some(other) => other.to_string(),
    }
}

/// The words of a list.
pub(crate) fn words(of: &Value, name: &str, between: &str) -> String {
    let words: Vec<_> = array(of, name).iter().filter_map(Value::as_str).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(between) }
}
