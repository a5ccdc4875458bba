//! What is served as it was checked in: the console's files and the description of the API.

use axum::{
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::IntoResponse,
    routing::{MethodRouter, get},
};

/// The console may load from here and nowhere else.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

/// The description of every route, in OpenAPI 3.1.
pub(crate) const OPENAPI: &str = include_str!("../assets/openapi.json");
pub(crate) const CONSOLE: &str = include_str!("../assets/console.html");
pub(crate) const SCRIPT: &str = include_str!("../assets/console.js");
pub(crate) const STYLE: &str = include_str!("../assets/console.css");

/// A route that serves `text`.
pub(crate) fn asset<S: Clone + Send + Sync + 'static>(
    text: &'static str,
    kind: &'static str,
) -> MethodRouter<S> {
    let headers =
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache"), (CONTENT_SECURITY_POLICY, POLICY)];
    get(move || async move { (headers, text).into_response() })
}
