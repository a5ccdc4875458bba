//! Every route of the API in one table, and what holds for all of them: who may change something, what is counted.

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use millrace_tls::Peer;
use tracing::info;

use crate::{
    Role,
    access::{Access, Denial},
    assets::{CONSOLE, OPENAPI, SCRIPT, STYLE, asset},
    backup, channels, decisions,
    farm::Farm,
    metrics::ApiMetrics,
    moves, orders,
    problem::Problem,
    reports,
};

/// Whoever reads it sees the hashes of all keys.
const BACKUP: &str = "/v1/backup";

/// What stands before every route.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) access: Access,
    pub(crate) metrics: ApiMetrics,
}

/// The routes that `/v1/openapi.json` describes.
pub(crate) fn described() -> Vec<(&'static str, MethodRouter<Farm>)> {
    vec![
        ("/v1/streams", get(reports::streams)),
        ("/v1/streams/{id}", get(reports::stream)),
        ("/v1/streams/{id}/explain", get(decisions::explain)),
        ("/v1/streams/{id}/move", post(moves::order).delete(moves::take_back)),
        ("/v1/decisions", get(decisions::list)),
        ("/v1/events", get(reports::events)),
        ("/v1/nodes", get(reports::nodes)),
        ("/v1/nodes/{node}/drain", post(orders::drain)),
        ("/v1/nodes/{node}/cordon", post(orders::cordon)),
        ("/v1/nodes/{node}/uncordon", post(orders::uncordon)),
        ("/v1/origins", get(reports::origins)),
        ("/v1/channels", get(channels::list).post(channels::create)),
        (
            "/v1/channels/{channel}",
            get(channels::show).patch(channels::edit).delete(channels::delete),
        ),
        ("/v1/channels/{channel}/rotate", post(channels::rotate)),
        ("/v1/channels/{channel}/revoke", post(channels::revoke)),
        (BACKUP, get(backup::give)),
        ("/v1/restore", post(backup::restore).layer(DefaultBodyLimit::max(backup::MAX_BYTES))),
        ("/v1/openapi.json", asset(OPENAPI, "application/json")),
    ]
}

/// The whole of it.
pub(crate) fn routes(farm: Farm, door: Door) -> Router {
    let console = [
        ("/", asset(CONSOLE, "text/html; charset=utf-8")),
        ("/console.js", asset(SCRIPT, "text/javascript; charset=utf-8")),
        ("/console.css", asset(STYLE, "text/css; charset=utf-8")),
    ];
    let all = described().into_iter().chain(console);
    let router = all.fold(Router::new(), |router, (path, methods)| {
        router.route(path, methods.fallback(wrong_method))
    });
    router
        .fallback(nothing_here)
        .with_state(farm)
        .layer(middleware::from_fn_with_state(door, through_door))
}

async fn through_door(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let needed = match request.method().is_safe() && request.uri().path() != BACKUP {
        true => Role::Read,
        false => Role::Write,
    };
    let answer = match door.access.role(peer.address, request.version(), request.headers()) {
        Some((role, _)) if role >= needed && needed == Role::Read => next.run(request).await,
        Some((role, by)) if role >= needed => {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let answer = next.run(request).await;
            let status = answer.status().as_u16();
            info!(%method, path, by, peer = %peer.address, status, "order");
            answer
        }
        _ => denied(door.access.denial(request.headers())),
    };
    door.metrics.answered(answer.status());
    answer
}

fn denied(denial: Denial) -> Response {
    let unauthorized = |challenge: &'static str, error: &str, what_to_do: &str| {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, error, what_to_do);
        ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
    };
    let send =
        "send `Authorization: Bearer TOKEN` (--token-file FILE); millrace tokens add makes one";
    match denial {
        Denial::ReadsOnly => Problem::new(
            StatusCode::FORBIDDEN,
            "this takes a token with the role `write`, and yours only reads",
            "make one on the API's host: millrace tokens add FILE NAME --role write",
        )
        .into_response(),
        Denial::UnknownToken => unauthorized(
            "Bearer error=\"invalid_token\"",
            "the token that was sent is not one of this API's",
            "compare it with what millrace tokens add printed; its line in the API's file of tokens may be gone",
        ),
        Denial::NotBearer => {
            unauthorized("Bearer", "`Authorization` is taken with a bearer token only", send)
        }
        Denial::NoToken => {
            unauthorized("Bearer", "this is taken from the API's own host, or with a token", send)
        }
    }
}

async fn nothing_here(request: Request) -> Problem {
    let error = format!("no page {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, error, "see /v1/openapi.json for what there is")
}

async fn wrong_method(request: Request) -> Problem {
    let error = format!("{} is not for {}", request.method(), request.uri().path());
    let what_to_do = "see /v1/openapi.json for its methods";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, error, what_to_do)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_names_every_route_and_no_other() {
        let openapi: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        let said: BTreeSet<&str> =
            openapi["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let routes = described();
        let real: BTreeSet<&str> = routes.iter().map(|(path, _)| *path).collect();
        assert_eq!(said, real);
    }

    #[test]
    fn the_console_asks_no_other_host_for_anything() {
        for text in [CONSOLE, SCRIPT, STYLE] {
            assert!(!text.contains("https://") && !text.contains("src=\"//"), "{text}");
        }
    }
}
