//! What somebody did to a database by hand: the doctor finds it, and mends what follows from the logs.

use std::collections::BTreeMap;

use scenarios::load::Load;
use scenarios::{Chance, House, Mode, eventually, in_every_mode};
use serde_json::{Value, json};

in_every_mode!(
    what_follows_from_the_logs_is_mended_and_runs_go_on,
    what_only_a_person_can_mend_is_found_and_left_alone,
    nothing_is_wrong_with_a_house_at_work,
);

const HELLO: &str = "{ version: 1, name: hello, type: steps, steps: [ { id: a, type: noop } ] }";
const ASK: &str = "{ version: 1, name: ask, type: steps, steps: [ { id: ok, type: approval } ] }";
const NAP: &str = "{ version: 1, name: nap, type: steps, steps: [ { id: nap, type: wait, for: 2s } ] }";
const CALL: &str =
    "{ version: 1, name: call, type: steps, steps: [ { id: call, type: workflow, workflow: hello } ] }";
const LARGE: &str = "{ version: 1, name: large, type: steps, steps: [ { id: a, type: transform, output: '${{ inputs }}' } ] }";

/// The same damage in the words of either database.
struct Hand<'a> {
    house: &'a House,
    mode: Mode,
}

impl Hand<'_> {
    /// The id of a run, as its database writes it.
    fn id(&self, run: &str) -> String {
        match self.mode {
            Mode::Embedded => format!("x'{}'", run.replace('-', "")),
            Mode::Fleet => format!("'{run}'"),
        }
    }

    fn does(&self, sql: &str) {
        self.house.sql(sql);
    }

    /// `sql` has `{id}` where the run's id belongs.
    fn does_to(&self, run: &str, sql: &str) {
        self.does(&sql.replace("{id}", &self.id(run)));
    }

    fn or<'a>(&self, sqlite: &'a str, postgres: &'a str) -> &'a str {
        if self.mode == Mode::Embedded { sqlite } else { postgres }
    }

    /// The database refuses to change what has happened: that is taken away first.
    fn takes_the_guards_away(&self) {
        for (table, trigger) in [
            ("workflow_run_events", "workflow_run_events_never_change"),
            ("workflow_run_events", "workflow_run_events_never_leave"),
            ("workflow_runs", "workflow_runs_stay_ended"),
        ] {
            let on = format!(" on {table}");
            self.does(&format!("drop trigger {trigger}{}", self.or("", &on)));
        }
    }
}

/// What the doctor says: each kind with what became of it, and how often.
fn findings(house: &House, repair: bool) -> BTreeMap<(String, String), usize> {
    let words: &[&str] =
        if repair { &["doctor", "-o", "json", "--repair"] } else { &["doctor", "-o", "json"] };
    let said = house.ask(words);
    let report: Value = serde_json::from_str(&said.text).unwrap_or_else(|_| panic!("{said:?}"));
    let mut found = BTreeMap::new();
    for finding in report["findings"].as_array().expect("a list") {
        let word = |name: &str| finding[name].as_str().expect("a word").to_owned();
        *found.entry((word("kind"), word("repair"))).or_default() += 1;
    }
    let is_left = found.keys().any(|(_, repair)| repair != "repaired");
    assert_eq!(said.code, Some(i32::from(is_left)), "{}", said.text);
    found
}

fn kinds(found: &BTreeMap<(String, String), usize>) -> Vec<(&str, &str, usize)> {
    found.iter().map(|((kind, repair), count)| (kind.as_str(), repair.as_str(), *count)).collect()
}

async fn what_follows_from_the_logs_is_mended_and_runs_go_on(mode: Mode) {
    let mut house = House::open(mode).await;
    for definition in [HELLO, ASK, NAP, CALL] {
        house.push(definition).await;
    }
    let ended = house.start("hello", json!({})).await;
    house.wait_for(&ended, "completed").await;
    let parent = house.start("call", json!({})).await;
    house.wait_for(&parent, "completed").await;
    let mut asking = Vec::new();
    for _ in 0..5 {
        let run = house.start("ask", json!({})).await;
        house.wait_for_gate(&run, "ok").await;
        asking.push(run);
    }
    let decided = house.start("ask", json!({})).await;
    house.wait_for_gate(&decided, "ok").await;
    house.approve(&decided, "ok").await.ok();
    house.wait_for(&decided, "completed").await;
    let started = house.events(&parent).await.step("child.started", "call").seq;
    let napping = house.start("nap", json!({})).await;
    house.wait_for_step(&napping, "nap", "waiting").await;
    assert_eq!(house.stop().await, Some(0));
    assert_eq!(kinds(&findings(&house, false)), []);

    let hand = Hand { house: &house, mode };
    hand.takes_the_guards_away();
    hand.does_to(&napping, "update workflow_runs set wake_at = null where id = {id}");
    hand.does_to(&ended, "update workflow_runs set error = 'odd' where id = {id}");
    hand.does_to(&asking[0], "update workflow_runs set next_seq = next_seq + 3 where id = {id}");
    hand.does_to(&asking[1], "update workflow_runs set epoch = 77 where id = {id}");
    hand.does_to(&asking[2], "delete from approvals where run_id = {id}");
    hand.does_to(
        &asking[3],
        "insert into run_snapshots (run_id, seq, format, state) values ({id}, 99, 1, '{}')",
    );
    hand.does_to(&asking[4], "update approvals set seq = 1 where run_id = {id}");
    hand.does_to(&decided, "update approvals set decided_at = null, decision = null where run_id = {id}");
    // The parent has forgotten that its child has ended, and the child believes that it knows.
    let later = format!("delete from workflow_run_events where run_id = {{id}} and seq > {started}");
    hand.does_to(&parent, &later);
    let waits = format!(
        "update workflow_runs set status = 'waiting', ended_at = null, next_seq = {} where id = {{id}}",
        started + 1
    );
    hand.does_to(&parent, &waits);
    let (now, far) = (
        hand.or("1700000000000000", "timestamptz '2023-11-14'"),
        hand.or("9000000000000000", "timestamptz '2255-01-01'"),
    );
    hand.does_to(
        &ended,
        "insert into concurrency_places (run_id, tenant, name, places, on_conflict, priority, state)
         values ({id}, 1, 'harbor', 1, 'queue', 1, 'held')",
    );
    let nobody = "01900000-0000-7000-8000-00000000dead";
    hand.does_to(nobody, "insert into run_labels (run_id, tenant, key, value) values ({id}, 1, 'a', 'b')");
    hand.does_to(nobody, "insert into run_snapshots (run_id, seq, format, state) values ({id}, 1, 1, '{}')");
    let message = "insert into outbox (tenant, run_id, seq, topic, body, created_at, due_at, dead_at)
                   values (1, {id}, 1, 'it', '{}', {now}, {now}, {now})";
    hand.does_to(nobody, &message.replace("{now}", now));
    hand.does_to(&ended, &message.replace("{now}", now));
    hand.does(hand.or(
        "insert into blobs (tenant, digest, size, content) values (1, 'blake3:00', 1, x'00')",
        "insert into blobs (tenant, digest, size, content) values (1, 'blake3:00', 1, '\\x00')",
    ));
    hand.does(&format!(
        "insert into circuits (tenant, kind, name, state, failures, window_ends_at, probe_at, since)
         values (1, 'tool', 'slow', 'open', 1, {now}, {far}, {now})"
    ));

    let expected = [
        ("approval_left_open", 1),
        ("approval_unrequested", 1),
        ("approvals_differ", 2),
        ("child_end_lost", 1),
        ("kept_place", 1),
        ("log_differs", 1),
        ("log_gap", 1),
        ("orphan_blob", 1),
        ("orphan_labels", 1),
        ("orphan_outbox", 1),
        ("orphan_snapshot", 1),
        ("row_differs", 4),
        ("snapshot_ahead", 1),
        ("stuck_circuit", 1),
    ];
    let found = findings(&house, false);
    let stuck = (("stuck_outbox".to_owned(), "repairable".to_owned()), 2);
    assert_eq!(found.get(&stuck.0), Some(&stuck.1), "{found:#?}");
    let others: Vec<_> = kinds(&found).into_iter().filter(|(kind, ..)| *kind != "stuck_outbox").collect();
    assert_eq!(others, expected.map(|(kind, count)| (kind, "repairable", count)));

    let repaired = findings(&house, true);
    assert!(repaired.keys().all(|(_, fate)| fate == "repaired"), "{repaired:#?}");
    assert_eq!(kinds(&findings(&house, false)), []);
    let history = house.ask(&["doctor", "--history"]).succeeded();
    assert!(history.contains("system:doctor") && history.contains("child_end_lost"), "{history}");

    house.rise().await;
    house.wait_for(&napping, "completed").await;
    house.wait_for(&parent, "completed").await;
    for run in &asking {
        house.approve(run, "ok").await.ok();
        house.wait_for(run, "completed").await;
    }
    let log = house.events(&asking[1]).await;
    let told = log.0.iter().find(|event| event.is("run.repaired")).expect("a live run's log says so");
    assert_eq!(told.body["found"], json!(["row_differs"]));
    assert_eq!(house.events(&ended).await.count("run.repaired"), 0, "nothing follows an end");
    house.close().await;
}

async fn what_only_a_person_can_mend_is_found_and_left_alone(mode: Mode) {
    let mut house = House::open(mode).await;
    for definition in [HELLO, ASK, CALL, LARGE] {
        house.push(definition).await;
    }
    let mut ended = Vec::new();
    for (workflow, inputs) in [
        ("hello", json!({})),
        ("hello", json!({})),
        ("hello", json!({})),
        ("hello", json!({})),
        ("large", json!({ "text": "x".repeat(100_000) })),
        ("large", json!({ "text": "y".repeat(100_000) })),
    ] {
        let run = house.start(workflow, inputs).await;
        house.wait_for(&run, "completed").await;
        ended.push(run);
    }
    let of_its_own = house.run(&HELLO.replace("hello", "inline"), json!({})).await;
    house.wait_for(&of_its_own, "completed").await;
    let calls_ask = CALL.replace("workflow: hello", "workflow: ask").replace("name: call", "name: p");
    let parent = house.run(&calls_ask, json!({})).await;
    let children = eventually("a child to ask", || async {
        let children = house.children(&parent).await;
        children.first().is_some_and(|it| it["status"] == "waiting").then_some(children)
    });
    let child = children.await[0]["id"].as_str().expect("an id").to_owned();
    let asking = house.start("ask", json!({})).await;
    house.wait_for_gate(&asking, "ok").await;
    assert_eq!(house.stop().await, Some(0));

    let hand = Hand { house: &house, mode };
    hand.takes_the_guards_away();
    hand.does_to(&ended[0], "delete from workflow_run_events where run_id = {id} and seq = 3");
    hand.does_to(
        &ended[1],
        "update workflow_run_events set data = '{\"session\": 1}' where run_id = {id} and seq = 2",
    );
    let append = hand.or(
        "insert into workflow_run_events (run_id, seq, at, code, data)
         select id, next_seq, 0, 4, '{}' from workflow_runs where id = {id}",
        "insert into workflow_run_events (run_id, seq, at, code, data)
         select id, next_seq, now(), 4, '{}' from workflow_runs where id = {id}",
    );
    hand.does_to(&ended[2], append);
    hand.does_to(&ended[3], "delete from workflow_runs where id = {id}");
    let first_blob = "(select min(digest) from blobs)";
    hand.does(&format!("delete from blobs where digest = {first_blob}"));
    let zeros = hand.or("zeroblob(size)", "decode(repeat('00', size), 'hex')");
    hand.does(&format!("update blobs set content = {zeros} where digest = {first_blob}"));
    hand.does("update workflow_versions set spec = replace(spec, '\"id\":\"a\"', '\"id\":\"b\"') where name = 'inline'");
    let ends = hand.or(
        "update workflow_runs set status = 'completed', ended_at = 5 where id = {id}",
        "update workflow_runs set status = 'completed', ended_at = now() where id = {id}",
    );
    hand.does_to(&parent, ends);
    hand.does_to(&asking, ends);
    hand.does("update workflows set latest_version = 9 where name = 'call'");

    let found = findings(&house, true);
    let by_hand: BTreeMap<_, _> = found
        .iter()
        .filter(|((_, fate), _)| fate == "by_hand")
        .map(|((kind, _), count)| (kind.as_str(), *count))
        .collect();
    for kind in [
        "log_gap",
        "broken_log",
        "unreadable_log",
        "event_after_end",
        "orphan_events",
        "dangling_blob",
        "damaged_blob",
        "damaged_definition",
        "status_mismatch",
        "row_differs",
        "child_left_open",
        "dangling_latest",
    ] {
        assert!(by_hand.contains_key(kind), "no {kind} in {found:#?}");
    }
    assert_eq!(found, findings(&house, true), "what needs a person is there until one comes");
    hand.does_to(&child, "delete from workflow_runs where id = {id}");
    hand.does_to(&asking, "update workflow_runs set status = 'waiting', ended_at = null where id = {id}");
    hand.does_to(&parent, "update workflow_runs set status = 'waiting', ended_at = null where id = {id}");
    let found = findings(&house, false);
    assert!(found.contains_key(&("child_missing".to_owned(), "by_hand".to_owned())), "{found:#?}");
    house.leave();
}

async fn nothing_is_wrong_with_a_house_at_work(mode: Mode) {
    const LANES: u64 = 4;
    const LOOKS: usize = 3;
    let house = House::open(mode).await;
    let load = Load::begin(&house, LANES, &mut Chance::from_environment()).await;
    // A fleet's database may be mended while it works; a file belongs to the server.
    let words: &[&str] = if mode == Mode::Fleet { &["doctor", "--repair"] } else { &["doctor"] };
    for look in 0..LOOKS {
        eventually("more runs than before", || async {
            (house.all_runs().await.len() > 8 * (look + 1)).then_some(())
        })
        .await;
        let said = tokio::task::block_in_place(|| house.ask(words)).succeeded();
        assert!(said.contains("nothing wrong"), "{said}");
    }
    load.end(house).await;
}
