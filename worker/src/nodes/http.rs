//! `http`: sends one request and gives what was answered.

mod client;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::StepError;
use windlass_model::workflow::KindSpec;

use self::client::Clients;
use self::request::Request;
use super::{EgressPolicy, canceled, params};

/// How long an exchange may take, redirects and all, when the node says nothing.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// As many as people need who moved twice; a loop shows early.
const REDIRECTS_MAX: usize = 5;

pub(crate) struct Http {
    clients: Clients,
    time_max: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    with: request::With,
}

impl Http {
    pub(crate) fn new(egress: EgressPolicy) -> Self {
        Self { clients: Clients::new(egress, client::system_lookup()), time_max: TIMEOUT_DEFAULT }
    }

    async fn exchange(&self, mut request: Request) -> Result<Value, StepError> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.clients.send(&request).await?;
            match request.redirected(&response)? {
                Some(next) => request = next,
                None => return response::read(response, &request).await,
            }
        }
        Err(StepError::new("http.redirect", format!("{request} redirected more than {REDIRECTS_MAX} times")))
    }
}

#[async_trait]
impl Runner for Http {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "http",
            summary: "Sends one HTTP request and gives what was answered",
            params: || {
                json!({
                    "type": "object",
                    "properties": { "with": request::schema() },
                    "required": ["with"],
                    "additionalProperties": false
                })
            },
            retry_safe: request::is_repeatable,
        }
    }

    fn host(&self, params: &Value) -> Option<String> {
        request::host(params)
    }

    async fn run(&self, mut step: StepContext) -> Result<Done, Failure> {
        let Params { with } = params(&mut step)?;
        let request = Request::new(with, &step.idempotency_key)?;
        let host = request.to_string();
        // A longer or shorter time is the engine's to keep.
        let time_max = if step.timeout.is_none() { self.time_max } else { Duration::MAX };
        tokio::select! {
            () = step.cancel.cancelled() => Err(canceled().into()),
            answered = tokio::time::timeout(time_max, self.exchange(request)) => match answered {
                Ok(output) => Ok(Done::new(output?)),
                Err(_) => Err(StepError::new("timeout", format!("{host} took longer than {time_max:?}")).into()),
            },
        }
    }
}
