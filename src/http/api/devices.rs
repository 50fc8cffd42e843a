//! `/api/v1/devices` and the key that subscriptions are made for. docs/api.md describes it.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::admin::devices::{DeviceInfo, NewDevice, TestResult};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::login::Login;
use crate::types::DeviceId;

pub(in crate::http) const TEST_ROUTE: &str = "/api/v1/devices/{id}/test";

pub(super) fn routes() -> Router<Context> {
    Router::new()
        .route("/api/v1/devices", get(list).post(add))
        .route("/api/v1/devices/{id}", get(one).delete(remove))
        .route("/api/v1/devices/{id}/verify", post(verify))
        .route(TEST_ROUTE, post(test))
        .route("/api/v1/devices/{id}/pause", post(pause))
        .route("/api/v1/devices/{id}/resume", post(resume))
        .route("/api/v1/push/vapid-key", get(vapid_key))
}

async fn list(State(context): State<Context>, Login(account): Login) -> Result<Response, ApiError> {
    let devices = context.devices.list(account.id)?;
    Ok(Json(serde_json::json!({ "devices": devices })).into_response())
}

async fn add(
    State(context): State<Context>,
    Login(account): Login,
    body: Bytes,
) -> Result<(StatusCode, Json<DeviceInfo>), ApiError> {
    let new: NewDevice = parse(&body)?;
    let device = context.devices.add(account.id, new).await?;
    Ok((StatusCode::CREATED, Json(device)))
}

async fn one(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
) -> Result<Json<DeviceInfo>, ApiError> {
    Ok(Json(context.devices.get(account.id, device_id(&id)?)?))
}

async fn remove(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    context.devices.remove(account.id, device_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

async fn verify(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<DeviceInfo>, ApiError> {
    let Code { code } = parse(&body)?;
    let id = device_id(&id)?;
    Ok(Json(context.devices.verify(account.id, id, &code).await?))
}

async fn test(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
) -> Result<Json<TestResult>, ApiError> {
    Ok(Json(
        context.devices.test(account.id, device_id(&id)?).await?,
    ))
}

async fn pause(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
) -> Result<Json<DeviceInfo>, ApiError> {
    let id = device_id(&id)?;
    let reason = Some("its owner paused it");
    Ok(Json(context.devices.pause(account.id, id, reason).await?))
}

async fn resume(
    State(context): State<Context>,
    Login(account): Login,
    Path(id): Path<String>,
) -> Result<Json<DeviceInfo>, ApiError> {
    let id = device_id(&id)?;
    Ok(Json(context.devices.pause(account.id, id, None).await?))
}

/// No secret: it goes to every page.
async fn vapid_key(State(context): State<Context>) -> Result<Response, ApiError> {
    let key = context
        .devices
        .vapid_key()?
        .ok_or_else(ApiError::not_found)?;
    let text = URL_SAFE_NO_PAD.encode(key);
    Ok(Json(serde_json::json!({ "applicationServerKey": text })).into_response())
}

fn device_id(text: &str) -> Result<DeviceId, ApiError> {
    text.parse()
        .map(DeviceId)
        .map_err(|_| ApiError::not_found())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // The parser's text names keys and places, not values of ours.
        ApiError::bad_request(format!("not the JSON that belongs here: {error}"))
    })
}
