//! `noop`: does nothing, so that a node can be a place where branches meet.

use async_trait::async_trait;
use serde_json::json;
use windlass_engine::{Done, Failure, Runner, StepContext};
use windlass_model::workflow::KindSpec;

pub(crate) struct Noop;

#[async_trait]
impl Runner for Noop {
    fn spec(&self) -> KindSpec {
        KindSpec {
            name: "noop",
            summary: "Does nothing; a place where branches meet",
            params: || json!({ "type": "object", "additionalProperties": false }),
            retry_safe: |_| true,
        }
    }

    async fn run(&self, _step: StepContext) -> Result<Done, Failure> {
        Ok(Done::new(json!({})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::testing::step;

    #[tokio::test]
    async fn it_gives_an_empty_object() {
        assert_eq!(Noop.run(step(json!({}))).await, Ok(Done::new(json!({}))));
    }
}
