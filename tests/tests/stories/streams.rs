//! People who watch a run live.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use scenarios::stream::Opened;
use scenarios::{Chance, Client, Event, House, Mode, Sink, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    a_stream_tells_the_whole_story_live_and_ends_with_it,
    a_stream_goes_on_where_the_last_one_broke,
    a_stream_of_a_run_that_has_ended_is_over,
    a_position_that_is_none_is_refused,
    twenty_torn_clients_see_every_event_once_in_order,
    watchers_go_on_after_a_kill,
    a_websocket_tells_the_same_story,
    progress_travels_with_the_events_and_is_no_history,
    one_connection_watches_many_runs,
    watchers_that_never_read_harm_nobody,
);

/// A run that lasts a while and says much: steps in two branches, some of them slow.
fn talkative(steps: usize) -> String {
    let mut nodes = String::from("first: { type: wait, for: 300ms },");
    for branch in ["a", "b"] {
        let mut before = "first".to_owned();
        for n in 0..steps {
            let id = format!("{branch}{n}");
            let deed = match n % 5 {
                4 => "type: http, with: { url: '${{ inputs.sink }}/slow' }",
                _ => "type: noop",
            };
            nodes.push_str(&format!("{id}: {{ needs: [{before}], {deed} }},"));
            before = id;
        }
    }
    format!("{{ version: 1, name: talkative, type: dag, nodes: {{ {nodes} }} }}")
}

async fn talk(house: &House, sink: &Sink, steps: usize) -> String {
    sink.is_slow("/slow", Duration::from_millis(25));
    house.run(&talkative(steps), json!({"sink": sink.url()})).await
}

#[track_caller]
fn assert_same_story(seen: &[Event], log: &[Event]) {
    let seqs: Vec<u64> = seen.iter().map(|event| event.seq).collect();
    let all: Vec<u64> = log.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, all);
    for (seen, kept) in seen.iter().zip(log) {
        assert_eq!((&seen.body, seen.at), (&kept.body, kept.at));
    }
}

async fn a_stream_tells_the_whole_story_live_and_ends_with_it(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = talk(&house, &sink, 10).await;

    let mut stream = house.watch(&run).await;

    let header =
        |name: &str| stream.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
    assert!(header("content-type").starts_with("text/event-stream"));
    assert_eq!((header("cache-control"), header("x-accel-buffering")), ("no-store".into(), "no".into()));
    assert_eq!(header("content-encoding"), "");
    let mut frames = Vec::new();
    while let Some(frame) = stream.next_frame().await {
        frames.push(frame);
    }
    assert_eq!(frames.iter().filter(|frame| frame.retry.as_deref() == Some("2000")).count(), 1);
    let seen: Vec<Event> = frames.iter().filter_map(|frame| frame.event()).collect();
    assert!(frames.iter().all(|frame| frame.event().is_none_or(|it| frame.id == Some(it.seq.to_string()))));
    assert_same_story(&seen, &house.events(&run).await.0);
    assert!(seen.last().is_some_and(Event::is_terminal), "the stream ended before the run");
    house.close_with(&[&sink]).await;
}

async fn a_stream_goes_on_where_the_last_one_broke(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: gate, type: steps, steps: [ { id: a, type: noop }, { id: ok, type: approval } ] }";
    let run = house.run(yaml, json!({})).await;
    house.wait_for(&run, "waiting").await;
    let so_far = house.events(&run).await.0;
    let last = so_far.last().expect("there are events").seq.to_string();

    let Opened::Stream(mut by_header) = house.try_watch(&run, Some(&last)).await.expect("the house answers")
    else {
        panic!("the run has not ended")
    };
    let path = format!("/v1/workflow-runs/{run}/events?after={last}");
    let request = house.request(reqwest::Method::GET, &path);
    let Opened::Stream(mut by_query) = house.open_stream(request, None).await.expect("the house answers")
    else {
        panic!("the run has not ended")
    };
    house.approve(&run, "ok").await.ok();

    house.wait_for(&run, "completed").await;
    let all = house.events(&run).await.0;
    for stream in [&mut by_header, &mut by_query] {
        assert_same_story(&stream.rest().await, &all[so_far.len()..]);
    }
    house.close().await;
}

async fn a_stream_of_a_run_that_has_ended_is_over(mode: Mode) {
    let house = House::open(mode).await;
    let run =
        house.run("{ version: 1, name: q, type: steps, steps: [ { id: a, type: noop } ] }", json!({})).await;
    house.wait_for(&run, "completed").await;
    let log = house.events(&run).await.0;

    let mut whole = house.watch(&run).await;
    assert_same_story(&whole.rest().await, &log);
    let last = log.len().to_string();
    match house.try_watch(&run, Some(&last)).await.expect("the house answers") {
        Opened::Refused(answer) => assert_eq!((answer.status, answer.text.as_str()), (204, "")),
        Opened::Stream(_) => panic!("EventSource would reconnect for ever"),
    }
    house.close().await;
}

async fn a_position_that_is_none_is_refused(mode: Mode) {
    let house = House::open(mode).await;
    let run =
        house.run("{ version: 1, name: q, type: steps, steps: [ { id: a, type: noop } ] }", json!({})).await;
    house.wait_for(&run, "completed").await;
    let expected = [
        ("abc", "invalid_cursor"),
        ("-1", "invalid_cursor"),
        ("1.5", "invalid_cursor"),
        ("18446744073709551616", "invalid_cursor"),
        ("1' or '1'='1", "invalid_cursor"),
        ("999999", "event_id_ahead"),
    ];
    for (id, code) in expected {
        match house.try_watch(&run, Some(id)).await.expect("the house answers") {
            Opened::Refused(answer) => drop(answer.refused(400, code)),
            Opened::Stream(_) => panic!("{id} is no position"),
        }
    }
    house.close().await;
}

/// A client whose connection breaks again and again.
async fn watch_torn(client: Client, run: String, mut chance: Chance) -> Vec<Event> {
    let mut seen: Vec<Event> = Vec::new();
    loop {
        let last = seen.last().map(|event| event.seq.to_string());
        let opened = client.try_watch(&run, last.as_deref()).await;
        match opened {
            Ok(Opened::Stream(mut stream)) => {
                // Sometimes it breaks before anything was read.
                for _ in 0..chance.below(12) {
                    match stream.next_event().await {
                        Some(event) => seen.push(event),
                        None => break,
                    }
                }
            }
            Ok(Opened::Refused(answer)) if answer.status == 204 => return seen,
            Ok(Opened::Refused(answer)) => panic!("{answer}"),
            // The house is down.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        tokio::time::sleep(chance.between(Duration::ZERO, Duration::from_millis(15))).await;
    }
}

async fn twenty_torn_clients_see_every_event_once_in_order(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let mut chance = Chance::from_environment();
    let run = talk(&house, &sink, 60).await;

    let clients = (0..20).map(|_| tokio::spawn(watch_torn(house.client(), run.clone(), chance.branch())));

    let seen = join_all(clients).await;
    let log = house.events(&run).await.0;
    assert!(log.len() > 240);
    for seen in seen {
        assert_same_story(&seen.expect("no client panicked"), &log);
    }
    house.close_with(&[&sink]).await;
}

async fn watchers_go_on_after_a_kill(mode: Mode) {
    let mut house = House::open(mode).await;
    let sink = Sink::open().await;
    let mut chance = Chance::from_environment();
    let run = talk(&house, &sink, 40).await;
    let clients: Vec<_> =
        (0..8).map(|_| tokio::spawn(watch_torn(house.client(), run.clone(), chance.branch()))).collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        house.kill_and_rise().await;
        eventually("no pause", || async {
            let now = house.get_run(&run).await;
            if now["status"] == "paused" {
                house.resume(&run).await.ok();
            }
            (now["status"] != "paused").then_some(())
        })
        .await;
    }
    let seen = join_all(clients).await;
    let log = house.events(&run).await.0;
    for seen in seen {
        assert_same_story(&seen.expect("no client panicked"), &log);
    }
    house.close_with(&[&sink]).await;
}

async fn a_websocket_tells_the_same_story(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = talk(&house, &sink, 10).await;
    let address = house.address().replace("http://", "ws://");

    let url = format!("{address}/v1/workflow-runs/{run}/events/ws");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("the house upgrades");
    let mut seen = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        if let Ok(text) = message.to_text() {
            let envelope: Value = serde_json::from_str(text).unwrap_or_default();
            if envelope["type"] == "run.event" {
                seen.push(Event::from_envelope(&envelope));
            }
        }
    }
    let log = house.events(&run).await.0;
    assert_same_story(&seen, &log);

    let url = format!("{address}/v1/workflow-runs/{run}/events/ws?after={}", log.len() - 1);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("the house upgrades");
    let last = socket.next().await.expect("one event is left").expect("it arrives");
    let envelope: Value =
        serde_json::from_str(last.to_text().expect("events are text")).expect("events are JSON");
    assert_same_story(&[Event::from_envelope(&envelope)], &log[log.len() - 1..]);
    house.close_with(&[&sink]).await;
}

async fn progress_travels_with_the_events_and_is_no_history(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = "{ version: 1, name: chatty, type: steps, steps: [ { id: first, type: wait, for: 300ms }, { id: talk, type: script, \
                command: [/bin/sh, -c, 'echo working on it >&2; sleep 0.5; echo done >&2'] } ] }";
    let run = house.run(yaml, json!({})).await;
    let mut stream = house.watch(&run).await;
    let mut progress = Vec::new();
    while let Some(frame) = stream.next_frame().await {
        if frame.id.is_none() && !frame.data.is_empty() {
            progress.push(serde_json::from_str::<Value>(&frame.data).expect("data is JSON"));
        }
    }
    let line = progress.iter().find(|it| it.to_string().contains("working on it"));
    let line = line.unwrap_or_else(|| panic!("no live line in {progress:?}"));
    assert_eq!((&line["type"], &line["node"]), (&json!("run.progress"), &json!("talk")));
    assert!(!house.events(&run).await.0.iter().any(|event| event.is("run.progress")));
    house.close().await;
}

async fn one_connection_watches_many_runs(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(talk(&house, &sink, 5).await);
    }
    let query: Vec<String> = runs.iter().map(|run| format!("run={run}")).collect();
    let request = house.request(reqwest::Method::GET, &format!("/v1/events?{}", query.join("&")));
    let Opened::Stream(mut stream) = house.open_stream(request, None).await.expect("the house answers")
    else {
        panic!("the runs have not ended")
    };
    let mut seen: std::collections::BTreeMap<String, Vec<Event>> = std::collections::BTreeMap::new();
    while let Some(frame) = stream.next_frame().await {
        let envelope: Value = serde_json::from_str(&frame.data).unwrap_or_default();
        if envelope["type"] == "run.event" {
            let run = envelope["run_id"].as_str().expect("an event names its run").to_owned();
            seen.entry(run).or_default().push(Event::from_envelope(&envelope));
        }
        if seen.len() == 3 && seen.values().all(|events| events.last().is_some_and(Event::is_terminal)) {
            break;
        }
    }
    for run in &runs {
        assert_same_story(&seen[run], &house.events(run).await.0);
    }
    house.close_with(&[&sink]).await;
}

async fn watchers_that_never_read_harm_nobody(mode: Mode) {
    let house = House::open(mode).await;
    let sink = Sink::open().await;
    let run = talk(&house, &sink, 60).await;
    let mut asleep = Vec::new();
    for _ in 0..50 {
        let mut connection = house.connect().await;
        let request = format!(
            "GET /v1/workflow-runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        );
        tokio::io::AsyncWriteExt::write_all(&mut connection, request.as_bytes())
            .await
            .expect("it takes bytes");
        asleep.push(connection);
    }
    let mut awake = house.watch(&run).await;
    let seen = awake.rest().await;
    assert_same_story(&seen, &house.events(&run).await.0);
    drop(asleep);
    house.close_with(&[&sink]).await;
}
