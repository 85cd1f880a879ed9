//! `pixell.agent.AgentService`, for every agent.

use std::collections::BTreeMap;
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use par_model::CallError;
use par_protocol::protobuf::agent::{
    ActionRequest, ActionResult, Capabilities, Empty, HealthStatus, Pong,
};
use tonic::Status;

use super::reply::{Reply, status};
use super::time::{asked_deadline, timestamp};
use super::unary::unary;
use crate::agent::logs::now_ms;
use crate::http::{Door, Front, ask};

pub(super) async fn answer(
    front: &Front,
    door: &Door,
    method: &str,
    request: Request<Incoming>,
) -> Option<Response<Reply>> {
    Some(match method {
        "Invoke" => {
            let headers = request.headers().clone();
            unary(request, &front.admission, |asked| {
                invoke(front, door, headers, asked)
            })
            .await
        }
        "Health" => {
            unary(request, &front.admission, async |Empty {}| {
                Ok(health(front))
            })
            .await
        }
        "DescribeCapabilities" => {
            unary(request, &front.admission, async |Empty {}| {
                describe(front, door)
            })
            .await
        }
        "Ping" => unary(request, &front.admission, async |Empty {}| Ok(pong())).await,
        _ => return None,
    })
}

fn health(front: &Front) -> HealthStatus {
    let ok = front.serving().is_ok();
    HealthStatus {
        ok,
        message: if ok { "healthy" } else { "starting" }.to_owned(),
        timestamp: timestamp(),
    }
}

fn pong() -> Pong {
    Pong {
        message: "pong".to_owned(),
        timestamp: timestamp(),
    }
}

fn describe(front: &Front, door: &Door) -> Result<Capabilities, Status> {
    let serving = front.serving().map_err(|error| status(&error))?;
    let seen = serving.ready.actions.iter();
    let from_agent = door.is_agents_own();
    let methods = seen.filter(|action| serving.has_action(action, from_agent));
    Ok(Capabilities {
        methods: methods.cloned().collect(),
        metadata: metadata(front),
    })
}

fn metadata(front: &Front) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("agent_id".to_owned(), front.about.agent.to_string()),
        ("package_id".to_owned(), front.about.package_id.clone()),
    ]);
    let package = front.about.package.borrow();
    let meta = package.as_ref().map(|package| &package.meta);
    for name in ["name", "version", "description"] {
        if let Some(text) = meta.and_then(|meta| meta[name].as_str()) {
            metadata.insert(name.to_owned(), text.to_owned());
        }
    }
    metadata
}

async fn invoke(
    front: &Front,
    door: &Door,
    headers: HeaderMap,
    mut asked: ActionRequest,
) -> Result<ActionResult, Status> {
    let began = Instant::now();
    if asked.request_id.is_empty() {
        asked.request_id = format!("req_{}", now_ms());
    }
    let answered = perform(front, door, &headers, &asked).await;
    let (success, result, error) = match answered {
        Ok(result) => (true, result, String::new()),
        Err(error) if is_the_handlers(&error) => (false, String::new(), words(&error, &asked)),
        Err(error) => return Err(status(&error)),
    };
    Ok(ActionResult {
        success,
        result,
        error,
        request_id: asked.request_id,
        duration_ms: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
    })
}

async fn perform(
    front: &Front,
    door: &Door,
    headers: &HeaderMap,
    asked: &ActionRequest,
) -> Result<String, CallError> {
    let serving = front.serving()?;
    if !serving.has_action(&asked.action, door.caller_is_agent(headers)) {
        return Err(CallError::UnknownExport(asked.action.clone()));
    }
    let body = serde_json::to_vec(&asked.parameters).expect("text is plain JSON");
    let name = format!("\0{}", asked.action);
    let usual = serving.admission.limits().deadline;
    let limit = asked_deadline(headers)?.unwrap_or(usual);
    let given = Some(asked.request_id.as_str());
    let answer = ask(&serving, &name, &body, door.hops(headers), given);
    let answer = tokio::time::timeout(limit, answer).await;
    let answer = answer.map_err(|_| CallError::DeadlineExceeded(limit))??;
    serde_json::from_slice(&answer)
        .map_err(|error| CallError::Handler(format!("the action answered no text: {error}")))
}

/// What is an answer of the service, and no failure of the call.
fn is_the_handlers(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Handler(_) | CallError::BadJson(_) | CallError::UnknownExport(_)
    )
}

fn words(error: &CallError, asked: &ActionRequest) -> String {
    match error {
        CallError::UnknownExport(_) => {
            let shown: String = asked.action.chars().take(200).collect();
            format!("No handler found for action: {shown}")
        }
        error => error.to_string(),
    }
}
