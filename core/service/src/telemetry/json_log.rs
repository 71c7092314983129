//! Log lines as JSON objects, with the fields of every span they are in.

use std::borrow::Cow;
use std::fmt::Debug;
use std::io::Write;

use domicile_core::ids::NodeId;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::clock::{Clock, SystemClock};

/// Room for a line, in bytes; a longer one grows.
const LINE_EXPECTED_BYTES: usize = 512;
/// Room for a line's fields.
const FIELDS_EXPECTED: usize = 16;

/// Writes one line per event.
pub(super) struct JsonLog<W> {
    writer: W,
    service: &'static str,
    node: NodeId,
}

impl<W> JsonLog<W> {
    pub(super) fn new(writer: W, service: &'static str, node: &NodeId) -> Self {
        Self { writer, service, node: node.clone() }
    }
}

/// Names with their values as JSON texts; a name stands here once, with its last value.
#[derive(Default)]
struct Fields(Vec<(&'static str, Cow<'static, str>)>);

impl Fields {
    fn put(&mut self, name: &'static str, json: impl Into<Cow<'static, str>>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, value)) => *value = json.into(),
            None => self.0.push((name, json.into())),
        }
    }

    fn put_text(&mut self, name: &'static str, text: &str) {
        // A str is always valid JSON once it is escaped.
        self.put(name, serde_json::to_string(text).unwrap_or_default());
    }

    fn line(&self) -> String {
        let mut line = String::with_capacity(LINE_EXPECTED_BYTES);
        for (name, json) in &self.0 {
            line.push_str(if line.is_empty() { "{\"" } else { ",\"" });
            line.push_str(name);
            line.push_str("\":");
            line.push_str(json);
        }
        line.push_str("}\n");
        line
    }
}

impl<S, W> Layer<S> for JsonLog<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields(Vec::with_capacity(FIELDS_EXPECTED));
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(Fields(fields)) = span.extensions().get() {
                for (name, json) in fields {
                    line.put(name, json.clone());
                }
            }
        }
        event.record(&mut line);
        let metadata = event.metadata();
        line.put("time_unix_ms", SystemClock.now_unix_ms().to_string());
        line.put_text("level", metadata.level().as_str());
        line.put_text("target", metadata.target());
        line.put_text("service", self.service);
        line.put_text("node", self.node.as_str());
        // A log that cannot be written must not stop the service.
        drop(self.writer.make_writer_for(metadata).write_all(line.line().as_bytes()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), if value { "true" } else { "false" });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Not a number has no JSON; it becomes null.
        self.put(field.name(), serde_json::json!(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request;
    use crate::trace::TRACEPARENT;
    use axum::routing::get;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};
    use tower::ServiceExt;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn every_line_of_a_request_names_its_trace_and_none_its_secrets() {
        let captured = Captured::default();
        let writer = captured.clone();
        let node = NodeId::parse("writer-a").unwrap();
        let log = JsonLog::new(move || writer.clone(), "domicile-writer", &node);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log));
        let handler = async || {
            let _inner = tracing::info_span!("inner", round = 7).entered();
            tracing::warn!(lag_bytes = 12, "far \"behind\"");
            "secret-answer"
        };
        let app = request::app(axum::Router::new().route("/v1/rounds/{id}", get(handler)));
        let request = http::Request::get("/v1/rounds/secret-id?token=secret-query")
            .header(TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .header(http::header::AUTHORIZATION, "Bearer secret-token")
            .body(axum::body::Body::from("secret-body"))
            .unwrap();
        assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [inner, access] = &lines[..] else { panic!("{text}") };
        for line in [inner, access] {
            assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(line["span_id"], inner["span_id"]);
            assert_ne!(line["span_id"], "00f067aa0ba902b7", "a span of our own");
            assert_eq!(line["service"], "domicile-writer");
            assert_eq!(line["node"], "writer-a");
        }
        assert_eq!((&inner["round"], &inner["lag_bytes"]), (&json!(7), &json!(12)));
        assert_eq!(inner["message"], "far \"behind\"");
        assert_eq!(access["route"], "/v1/rounds/{id}");
        assert_eq!((&access["status"], &access["method"]), (&json!(200), &json!("GET")));
    }
}
