//! Servers that go away and come back.

use std::time::{Duration, Instant};

use scenarios::Mode;
use scenarios::house::Plan;
use serde_json::json;

use crate::NOOP;
use crate::roles::{assert_news_are_prompt, create_and_wait};

/// Two questions to a database that is away, each of which may wait for a connection first.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn everything_goes_on_without_redis_and_comes_back_after_postgresql() {
    let mut house = Plan::of(Mode::Fleet).own_postgres().open().await;
    house.until_ready().await;

    house.redis().kill();
    create_and_wait(&house).await;
    house.until_ready().await;
    house.redis().start_again();

    house.postgres().stop();
    let began = Instant::now();
    let create = json!({"spec": scenarios::definition::parse(NOOP)});
    let (read, written) =
        (house.get("/v1/workflow-runs").await, house.post("/v1/workflow-runs", &create).await);
    for answer in [read, written] {
        assert_eq!(answer.status, 503, "{answer}");
        assert!(!answer.header("retry-after").is_empty(), "{answer}");
    }
    assert!(began.elapsed() < REFUSED_WITHIN, "{:?}", began.elapsed());
    for process in house.processes() {
        process.until_unready().await;
    }
    house.postgres().start_again();
    house.until_ready().await;
    create_and_wait(&house).await;
    // By now Redis has been found again.
    assert_news_are_prompt(&house).await;
    house.close().await;
}
