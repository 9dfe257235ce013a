//! Large maps: their items are dealt out to runs of their own, which any worker may take.

use std::collections::BTreeMap;
use std::time::Duration;

use scenarios::{Chance, House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_large_map_is_dealt_out_and_gives_what_a_small_one_gives,
    failures_of_all_slices_are_counted_together_and_a_retry_repeats_no_others,
    an_item_that_is_not_safe_waits_for_a_person_in_its_slice,
    a_cancel_goes_down_into_the_slices,
    kills_of_everything_lose_no_item_and_do_none_twice,
);

const SESSION: &[(&str, &str)] = &[("WINDLASS_SESSION_TTL", "600ms"), ("WINDLASS_SESSION_RENEW", "150ms")];

/// A map over so many numbers, in slices of three; `more` stands beside its `do`, `inside` in it.
fn sends(count: u32, method: &str, more: &str, inside: &str) -> String {
    format!(
        "{{ version: 1, name: sends, type: steps, inputs: {{ type: object }}, \
         outputs: '${{{{ nodes.send.output }}}}', steps: [ \
         {{ id: send, type: map, each: '${{{{ range({count}) | list }}}}', as: n, max_parallel: 4, slice: 3{more}, do: {{ type: http, \
         with: {{ method: {method}, url: '${{{{ inputs.sink }}}}/${{{{ n }}}}', \
         json: {{ at: '${{{{ item.index }}}}', of: '${{{{ item.count }}}}' }} }}{inside} }} }} ] }}"
    )
}

/// How often each item came.
fn arrivals(sink: &Sink) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for effect in sink.effects() {
        *counts.entry(effect.path[1..].parse().expect("the path is a number")).or_default() += 1;
    }
    counts
}

fn once_each(count: u32) -> BTreeMap<u32, usize> {
    (0..count).map(|item| (item, 1)).collect()
}

/// The run that took a slice, once it was started.
async fn slice_of(house: &House, run: &str, number: u64) -> String {
    eventually("a slice to begin", || async {
        let steps = house.get_run(run).await["steps"].as_array().cloned().unwrap_or_default();
        let slice = steps.iter().find(|step| step["node"] == "send.slice" && step["item"] == number)?;
        slice["child_run_id"].as_str().map(str::to_owned)
    })
    .await
}

async fn a_large_map_is_dealt_out_and_gives_what_a_small_one_gives(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = house.run(&sends(8, "PUT", "", ""), json!({"sink": sink.url()})).await;

    let ended = house.wait_for(&run, "completed").await;

    let statuses: Vec<Value> =
        ended["output"].as_array().into_iter().flatten().map(|it| it["status"].clone()).collect();
    assert_eq!((statuses, &ended["outcome"]), (vec![json!(200); 8], &json!("succeeded")));
    assert_eq!(arrivals(&sink), once_each(8));
    assert_eq!(sink.at("/7")[0].body, json!({"at": 7, "of": 8}));
    let items = house.get_step(&run, "send").await["items"].clone();
    assert_eq!(
        (&items["count"], &items["open"], &items["outcome"]),
        (&json!(8), &json!(0), &json!("succeeded"))
    );
    let last = slice_of(&house, &run, 2).await;
    let last = house.get_run(&last).await;
    assert_eq!((&last["workflow"], &last["parent"]["node"]), (&json!("sends.send"), &json!("send.slice")));
    let numbers: Vec<_> =
        last["steps"].as_array().into_iter().flatten().filter_map(|step| step["item"].as_u64()).collect();
    assert_eq!(numbers, [6, 7], "items keep the numbers that they have in the whole");
    assert_eq!(house.children(&run).await.len(), 3);
    house.close_with(&[&sink]).await;
}

async fn failures_of_all_slices_are_counted_together_and_a_retry_repeats_no_others(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.fails("/1", 2, 500).fails("/7", 2, 500);
    let yaml = sends(8, "PUT", ", tolerate: { failed_count: 1 }", "");
    let run = house.run(&yaml, json!({"sink": sink.url()})).await;
    house.wait_for_pause(&run, "step_failed").await;
    let step = house.get_step(&run, "send").await;
    assert_eq!(
        (&step["error"]["type"], &step["error"]["details"]["failed"]),
        (&json!("map.items_failed"), &json!(2))
    );
    let listed = &step["items"]["failed_items"];
    assert_eq!(
        (&listed[0]["index"], &listed[1]["index"], &listed[1]["error"]["type"]),
        (&json!(1), &json!(7), &json!("http.500"))
    );

    // One of the two is mended.
    sink.heals("/7");
    house.retry(&run, "send").await.ok();

    let ended = house.wait_for(&run, "completed").await;
    assert_eq!(
        (&ended["outcome"], &ended["output"][1], &ended["output"][7]["status"]),
        (&json!("partial_failure"), &Value::Null, &json!(200))
    );
    let twice = arrivals(&sink).into_iter().filter(|(_, count)| *count == 2).map(|(item, _)| item);
    assert_eq!(twice.collect::<Vec<_>>(), [1, 7]);
    house.close_with(&[&sink]).await;
}

async fn an_item_that_is_not_safe_waits_for_a_person_in_its_slice(mode: Mode) {
    let mut house = House::open_with(mode, SESSION).await;
    let sink = Sink::open().await;
    sink.hangs("/4");
    let run = house.run(&sends(6, "POST", "", ""), json!({"sink": sink.url()})).await;
    sink.wait_for("/4", 1).await;
    let slice = slice_of(&house, &run, 1).await;
    house.kill_and_rise().await;
    sink.heals("/4");
    house.wait_for_pause(&slice, "engine_interrupted").await;
    let skip = json!({"node": "send.do", "item": 4});
    house.command(&slice, "skip", &skip).await.ok();

    // Another item may have been in flight as well.
    let ended = eventually("the map to end", || async {
        for child in house.children(&run).await.iter().filter(|child| child["status"] == "paused") {
            let child = child["id"].as_str().expect("a run has an id");
            let answer = house.command(child, "retry", &json!({})).await;
            assert!(answer.is_ok() || answer.status == 409, "{answer}");
        }
        let run = house.get_run(&run).await;
        (run["status"] == "completed").then_some(run)
    })
    .await;
    assert_eq!((&ended["output"][4], &ended["output"][5]["status"]), (&Value::Null, &json!(200)));
    assert_eq!(sink.at("/4").len(), 1);
    house.close_with(&[&sink]).await;
}

async fn a_cancel_goes_down_into_the_slices(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    sink.hangs("/0").hangs("/3");
    let run = house.run(&sends(20, "PUT", "", ""), json!({"sink": sink.url()})).await;
    sink.wait_for("/0", 1).await;
    sink.wait_for("/3", 1).await;

    house.cancel(&run).await.ok();

    house.wait_for(&run, "canceled").await;
    let children = house.children(&run).await;
    assert!(
        children.iter().all(|child| child["status"] == "canceled" || child["status"] == "completed"),
        "{children:#?}"
    );
    assert!(arrivals(&sink).len() < 20, "what had not begun is not begun");
    house.close_with(&[&sink]).await;
}

/// Before, inside and after the commit that starts a slice: whenever everything dies, the next engines find what to do.
async fn kills_of_everything_lose_no_item_and_do_none_twice(mode: Mode) {
    const ITEMS: u32 = 30;
    let mut house = House::open_with(mode, SESSION).await;
    let sink = Sink::open().await;
    let mut chance = Chance::from_environment();
    for item in 0..ITEMS {
        sink.is_slow(&format!("/{item}"), Duration::from_millis(30));
    }
    let run = house.run(&sends(ITEMS, "PUT", "", ""), json!({"sink": sink.url()})).await;
    for _ in 0..4 {
        tokio::time::sleep(chance.between(Duration::from_millis(20), Duration::from_millis(400))).await;
        house.kill_and_rise().await;
    }

    // A run that was there when its engine died three times in a row is set aside.
    let ended = eventually("the map to end", || async {
        let children = house.children(&run).await;
        let parent = house.get_run(&run).await;
        for it in children.iter().chain([&parent]).filter(|it| it["status"] == "paused") {
            let id = it["id"].as_str().expect("a run has an id");
            let answer = house.resume(id).await;
            assert!(answer.is_ok() || answer.status == 409, "{answer}");
        }
        (parent["status"] == "completed").then_some(parent)
    })
    .await;

    assert_eq!(ended["output"].as_array().map(Vec::len), Some(ITEMS as usize));
    assert_eq!(arrivals(&sink).into_keys().collect::<Vec<_>>(), (0..ITEMS).collect::<Vec<_>>());
    let keys: BTreeMap<u32, Vec<String>> = (0..ITEMS)
        .map(|item| {
            let mut keys: Vec<_> =
                sink.at(&format!("/{item}")).into_iter().map(|effect| effect.key).collect();
            keys.dedup();
            (item, keys)
        })
        .collect();
    assert!(keys.values().all(|keys| keys.len() == 1), "whatever came again came under its key: {keys:#?}");
    assert_eq!(house.children(&run).await.len(), ITEMS as usize / 3);
    house.close_with(&[&sink]).await;
}
