//! Every route of the API in one table, and what holds for all of them: who may change something, what is counted.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};

use crate::{
    Token, access,
    assets::{CONSOLE, OPENAPI, SCRIPT, STYLE, asset},
    channels,
    farm::Farm,
    metrics::ApiMetrics,
    orders,
    problem::Problem,
    reports,
};

/// What stands before every route.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) token: Option<Token>,
    pub(crate) metrics: ApiMetrics,
}

/// The routes that `/v1/openapi.json` describes.
pub(crate) fn described() -> Vec<(&'static str, MethodRouter<Farm>)> {
    vec![
        ("/v1/streams", get(reports::streams)),
        ("/v1/streams/{id}", get(reports::stream)),
        ("/v1/events", get(reports::events)),
        ("/v1/nodes", get(reports::nodes)),
        ("/v1/nodes/{node}/drain", post(orders::drain)),
        ("/v1/nodes/{node}/cordon", post(orders::cordon)),
        ("/v1/nodes/{node}/uncordon", post(orders::uncordon)),
        ("/v1/origins", get(reports::origins)),
        ("/v1/channels", get(channels::list).post(channels::create)),
        ("/v1/channels/{channel}", get(channels::show).delete(channels::delete)),
        ("/v1/channels/{channel}/rotate", post(channels::rotate)),
        ("/v1/channels/{channel}/revoke", post(channels::revoke)),
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
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = request.method().is_safe()
        || access::may_change(door.token.as_ref(), peer, request.headers());
    let answer = match allowed {
        true => next.run(request).await,
        false => Problem::new(
            StatusCode::UNAUTHORIZED,
            "changes are taken from this host itself or with the token",
            "set token in [api] and send it as `Authorization: Bearer TOKEN`",
        )
        .into_response(),
    };
    door.metrics.answered(answer.status());
    answer
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
