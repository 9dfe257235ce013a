//! The worked examples, told over HTTP: as people would use them, with their events, approvals and rejections.

use scenarios::client::step_of;
use scenarios::{House, Mode, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_course_is_outlined_rejected_once_and_written_with_a_gap,
    refunds_are_approved_and_taken_back_when_the_books_do_not_close,
    an_order_is_signed_by_two_charged_at_the_third_try_and_canceled_from_anywhere,
);

const COURSE: &str = include_str!("../../../examples/course-outline.yaml");
const REFUNDS: &str = include_str!("../../../examples/refund-batch.yaml");
const ORDER: &str = include_str!("../../../examples/order-machine.yaml");

async fn a_course_is_outlined_rejected_once_and_written_with_a_gap(mode: Mode) {
    let house = House::open(mode).await;
    let editor = house.as_user("ed", &["editor"]);
    let run = house.run(COURSE, json!({"topic": "boats"})).await;
    let gate = house.wait_for_gate(&run, "review").await;
    assert_eq!(gate["show"]["modules"].as_array().map(Vec::len), Some(4));
    editor.reject(&run, "review").await.ok();

    let again = |run: &Value| step_of(run, "review")["waiting_on"]["gate"]["show"]["modules"][4].is_object();
    let asked = house.wait_until(&run, "the gate with one module more", again).await;
    let last = &step_of(&asked, "review")["waiting_on"]["gate"]["show"]["modules"][4]["title"];
    assert_eq!(last, "More, because it was rejected");
    editor.approve(&run, "review").await.ok();

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!((&ended["output"]["edits"], &ended["output"]["written"]), (&json!(3), &json!([1, 3, 4, 5])));
    assert_eq!(ended["output"]["lessons"][1], Value::Null);
    let content = step_of(&ended, "content")["child_run_id"].as_str().expect("a run").to_owned();
    let content = house.get_run(&content).await;
    assert_eq!(content["outcome"], "partial_failure");
    let failed = &step_of(&content, "lessons")["items"]["failed_items"][0];
    assert_eq!((&failed["index"], &failed["error"]["type"]), (&json!(1), &json!("agent.refused")));
    house.close().await;
}

async fn refunds_are_approved_and_taken_back_when_the_books_do_not_close(mode: Mode) {
    let house = House::open(mode).await;
    let lead = house.as_user("fay", &["finance-lead"]);
    let run = house.run(REFUNDS, json!({})).await;
    assert_eq!(house.wait_for_gate(&run, "approve").await["show"], json!({"total": 250}));
    lead.approve(&run, "approve").await.ok();
    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(
        (&ended["output"]["refund_id"], &ended["outcome"]),
        (&json!("R-7"), &json!("partial_failure"))
    );

    let run = house.run(REFUNDS, json!({"books": "closed"})).await;
    house.wait_for_gate(&run, "approve").await;
    lead.approve(&run, "approve").await.ok();
    let ended = house.wait_for(&run, "failed").await;
    assert_eq!(step_of(&ended, "refund.compensate")["output"], json!({"voided": "R-7"}));
    house.close().await;
}

async fn an_order_is_signed_by_two_charged_at_the_third_try_and_canceled_from_anywhere(mode: Mode) {
    let house = House::open(mode).await;
    let run = house.run(ORDER, json!({})).await;
    house.signal(&run, "SUBMIT", &json!({"total": 20_000})).await.ok();
    for by in ["legal", "nobody", "finance"] {
        house.signal(&run, "SIGNED", &json!({"by": by})).await.ok();
    }
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({"charge": "ch_20000", "tries": 3}));

    let run = house.run(ORDER, json!({})).await;
    house.signal(&run, "SUBMIT", &json!({"total": 20_000})).await.ok();
    house.signal(&run, "CANCEL", &json!({})).await.ok();
    assert_eq!(house.wait_for(&run, "completed").await["output"], json!({"charge": null, "tries": 0}));
    house.close().await;
}
