//! What a client gets instead of an answer: `{error, what_to_do}` with its status, and `command` where `millrace` does what is to be done.

use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Path, Request,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use millrace_registry::RegistryError;
use serde_json::json;

/// An error of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    error: String,
    what_to_do: String,
    command: Option<String>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        error: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self { status, error: error.into(), what_to_do: what_to_do.into(), command: None }
    }

    /// The same advice for who uses the command line, and knows no path of the API.
    pub(crate) fn command(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error, "what_to_do": self.what_to_do });
        if let Some(command) = self.command {
            body["command"] = json!(command);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let (status, what_to_do) = match &error {
            RegistryError::Json { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "repair or delete the record that is named")
            }
            RegistryError::Unavailable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "see whether etcd has a leader and no alarm (`etcdctl endpoint status`, `etcdctl alarm list`); look at what is there now before you try again",
            ),
            RegistryError::NotStored { .. } => (
                StatusCode::INSUFFICIENT_STORAGE,
                "make room or mend the disk on the API's host, then try again",
            ),
        };
        tracing::error!(%error, "registry not usable");
        Self::new(status, error.to_string(), what_to_do)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let what_to_do = "see /v1/openapi.json for the parameters of this path";
        Self::new(rejection.status(), rejection.body_text(), what_to_do)
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        let what_to_do = "send less: /v1/openapi.json says what is read";
        Self::new(rejection.status(), rejection.body_text(), what_to_do)
    }
}

/// A name in a path, as it was sent; what is no text is a [`Problem`] like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::from_request_parts(parts, state).await?;
        Ok(Self(name))
    }
}

/// An order's body, which must say nothing: what is to be done stands in path and query. Who sends it as JSON would have something
/// else done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let path = request.uri().path().to_owned();
        let body = Bytes::from_request(request, state).await?;
        match body.trim_ascii() {
            b"" | b"{}" | b"null" => Ok(Self),
            _ => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("{path} reads no body, and one of {} bytes was sent", body.len()),
                "say it in the query, as in ?key=ID; /v1/openapi.json has the parameters of each path",
            )),
        }
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        let what_to_do = "names are made of a-z, 0-9, _ and -; /v1/openapi.json has the paths";
        Self::new(rejection.status(), rejection.body_text(), what_to_do)
    }
}
