//! The bus of a fleet on a real Redis: what arrives, what may be lost, and how it comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use servers::Redis;
use tokio::time::timeout;
use uuid::Uuid;
use windlass_bus::{Bus, News, RedisBus, Rings, Subscription};
use windlass_model::event::{RunPaused, RunResumed};
use windlass_model::{
    Event, EventBody, EventSeq, PauseReason, Priority, Ring, RunId, SessionId, TenantId, Timestamp,
};

/// Longer than any pause between two attempts to connect.
const PATIENCE: Duration = Duration::from_secs(15);
/// Shorter than any look at the database, longer than any way through Redis on a busy machine.
const PROMPT: Duration = Duration::from_millis(1_800);

fn run_id(n: u128) -> RunId {
    RunId(Uuid::from_u128(n))
}

fn ring(n: u128, priority: Priority) -> Ring {
    Ring { run_id: run_id(n), tenant: TenantId(1), priority }
}

fn session(n: u128) -> SessionId {
    SessionId(Uuid::from_u128(n))
}

fn event(seq: u32, body: impl Into<EventBody>) -> Event {
    let (node, item, attempt, epoch, actor) = (None, None, None, None, None);
    Event { seq: EventSeq(seq), at: Timestamp(1), node, item, attempt, epoch, actor, body: body.into() }
}

fn resumed(seq: u32) -> Event {
    event(seq, RunResumed {})
}

/// A process that has found its way to Redis.
async fn process(redis: &Redis) -> Arc<RedisBus> {
    let bus = RedisBus::connect(&redis.url()).unwrap();
    until(|| bus.is_connected()).await;
    bus
}

async fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to be so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Speaks to Redis beside any bus.
async fn ask<T: redis::FromRedisValue>(server: &Redis, words: &[&[u8]]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query_async(&mut connection).await.unwrap()
}

async fn until_waiting(server: &Redis, queue: &str, count: u64) {
    let began = Instant::now();
    while ask::<u64>(server, &[b"LLEN", queue.as_bytes()]).await != count {
        assert!(began.elapsed() < PATIENCE, "{queue} never held {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The next event, whatever else comes before it.
async fn next_event(news: &mut Subscription) -> Arc<Event> {
    loop {
        match timeout(PROMPT, news.recv()).await.expect("an event in time").unwrap() {
            News::Event(event) => return event,
            News::Progress(_) | News::Missed => {}
        }
    }
}

/// Waits until rings of `bus` are heard by `worker`, ringing again as a sweep would.
async fn until_heard(bus: &RedisBus, worker: &mut dyn Rings, run: RunId) {
    let began = Instant::now();
    loop {
        bus.ring(Ring { run_id: run, tenant: TenantId(1), priority: Priority::Normal });
        if let Ok(rung) = timeout(Duration::from_millis(200), worker.take(10)).await
            && rung.iter().any(|ring| ring.run_id == run)
        {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "no ring is heard");
    }
}

#[tokio::test]
async fn rings_are_taken_by_priority_and_then_in_their_order_and_no_more_than_wanted() {
    let redis = Redis::start();
    let door = process(&redis).await;
    door.ring(ring(1, Priority::Low));
    door.ring(ring(2, Priority::Normal));
    door.ring(ring(3, Priority::Normal));
    door.ring(ring(4, Priority::High));
    until_waiting(&redis, "windlass:q:low:1", 1).await;
    let worker = process(&redis).await;
    let mut rings = worker.rings();
    let mut order = Vec::new();
    for limit in [10, 1, 1, 10] {
        let taken = timeout(PROMPT, rings.take(limit)).await.expect("a ring");
        assert!(taken.len() <= limit, "{taken:?}");
        order.extend(taken);
    }
    let order: Vec<RunId> = order.iter().map(|ring| ring.run_id).collect();
    assert_eq!(order, [4, 2, 3, 1].map(run_id));
}

/// However many rings of one tenant wait, another's are taken in the next turns; and so are those that are not urgent.
#[tokio::test]
async fn tenants_and_priorities_take_turns() {
    let redis = Redis::start();
    let door = process(&redis).await;
    for n in 0..400 {
        door.ring(ring(n, Priority::High));
    }
    door.ring(Ring { tenant: TenantId(2), ..ring(1_000, Priority::High) });
    door.ring(ring(1_001, Priority::Low));
    until_waiting(&redis, "windlass:q:low:1", 1).await;
    let worker = process(&redis).await;
    let mut rings = worker.rings();
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.extend(timeout(PROMPT, rings.take(10)).await.expect("rings"));
    }
    for late in [1_000, 1_001] {
        assert!(taken.iter().any(|ring| ring.run_id == run_id(late)), "{late} waits for all the others");
    }
}

#[tokio::test]
async fn each_ring_is_heard_by_one_worker_and_promptly() {
    let redis = Redis::start();
    let door = process(&redis).await;
    let workers = [process(&redis).await, process(&redis).await];
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    for worker in &workers {
        let (mut rings, sender) = (worker.rings(), sender.clone());
        tokio::spawn(async move {
            loop {
                for ring in rings.take(4).await {
                    if sender.send(ring).is_err() {
                        return;
                    }
                }
            }
        });
    }
    for n in 0..1_000 {
        door.ring(ring(n, Priority::Normal));
    }
    let mut all = Vec::new();
    while all.len() < 1_000 {
        all.push(timeout(PATIENCE, heard.recv()).await.expect("every ring is heard").unwrap());
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_000, "none is heard twice");
    let began = Instant::now();
    door.ring(ring(5_000, Priority::High));
    assert_eq!(timeout(PROMPT, heard.recv()).await.expect("a ring"), Some(ring(5_000, Priority::High)));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn garbage_in_the_queues_and_on_the_channels_is_passed_over() {
    let redis = Redis::start();
    let worker = process(&redis).await;
    let mut rings = worker.rings();
    let mut news = worker.subscribe(run_id(1)).await;
    let mut pokes = worker.pokes(session(1));
    for garbage in [&b"short"[..], b"", &[7; 17], &[0xff; 400]] {
        let _: u64 = ask(&redis, &[b"RPUSH", b"windlass:q:high:1", garbage]).await;
        for channel in [format!("windlass:r:{}", run_id(1).0.simple()), "windlass:s:x".to_owned()] {
            let _: u64 = ask(&redis, &[b"PUBLISH", channel.as_bytes(), garbage]).await;
        }
    }
    until_heard(&worker, &mut *rings, run_id(2)).await;
    worker.publish(run_id(1), vec![resumed(3)]);
    assert_eq!(next_event(&mut news).await.seq, EventSeq(3));
    worker.poke(session(1), ring(9, Priority::Normal));
    assert_eq!(timeout(PROMPT, pokes.recv()).await.expect("a poke"), Some(ring(9, Priority::Normal)));
}

#[tokio::test]
async fn a_poke_reaches_the_session_it_is_for() {
    let redis = Redis::start();
    let (door, one, two) = (process(&redis).await, process(&redis).await, process(&redis).await);
    let (mut first, mut second) = (one.pokes(session(1)), two.pokes(session(2)));
    // A poke that comes before the channel is heard is lost, and the heartbeat finds what it was for.
    let began = Instant::now();
    loop {
        door.poke(session(2), ring(7, Priority::Normal));
        match timeout(Duration::from_millis(50), second.recv()).await {
            Ok(poked) => break assert_eq!(poked, Some(ring(7, Priority::Normal))),
            Err(_) => assert!(began.elapsed() < PATIENCE, "no poke arrives"),
        }
    }
    assert!(first.try_recv().is_err());
}

#[tokio::test]
async fn what_is_published_after_a_subscription_arrives_in_its_order() {
    let redis = Redis::start();
    let (api, worker) = (process(&redis).await, process(&redis).await);
    for n in 0..20 {
        let mut news = api.subscribe(run_id(n)).await;
        worker.publish(
            run_id(n),
            vec![resumed(1), event(2, RunPaused { reason: PauseReason::Requested, message: None })],
        );
        worker.publish_progress(run_id(n), json!({"line": "é"}));
        worker.publish(run_id(n), vec![resumed(3)]);
        let mut seen = Vec::new();
        while seen.last() != Some(&"3".to_owned()) {
            match timeout(PROMPT, news.recv()).await.expect("news in time").unwrap() {
                News::Event(event) => seen.push(event.seq.to_string()),
                News::Progress(progress) => seen.push(progress["line"].to_string()),
                News::Missed => {}
            }
        }
        assert_eq!(seen, ["1", "2", "\"é\"", "3"], "run {n}");
    }
}

#[tokio::test]
async fn no_message_is_built_for_a_run_that_nobody_watches() {
    let redis = Redis::start();
    let (api, worker) = (process(&redis).await, process(&redis).await);
    let news = api.subscribe(run_id(1)).await;
    for seq in 1..50 {
        worker.publish(run_id(2), vec![resumed(seq)]);
    }
    worker.ring(ring(2, Priority::Low));
    until_waiting(&redis, "windlass:q:low:1", 1).await;
    let calls = || async {
        let stats: String = ask(&redis, &[b"INFO", b"commandstats"]).await;
        let publish = stats.lines().find(|line| line.starts_with("cmdstat_publish:"));
        publish.map_or(0, |line| {
            let calls = line.split_once("calls=").and_then(|(_, rest)| rest.split_once(',')).unwrap().0;
            calls.parse::<u32>().unwrap()
        })
    };
    assert_eq!(calls().await, 0);
    // Once its last watcher has gone, a run is published at most until that is noticed.
    worker.publish(run_id(1), vec![resumed(1)]);
    until_waiting(&redis, "windlass:q:low:1", 1).await;
    drop(news);
    let began = Instant::now();
    while ask::<Vec<String>>(&redis, &[b"PUBSUB", b"CHANNELS"]).await != Vec::<String>::new() {
        assert!(began.elapsed() < PATIENCE, "the channel is never left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.publish(run_id(1), vec![resumed(2)]);
    worker.ring(ring(3, Priority::Low));
    until_waiting(&redis, "windlass:q:low:1", 2).await;
    let before = calls().await;
    for seq in 3..50 {
        worker.publish(run_id(1), vec![resumed(seq)]);
    }
    worker.ring(ring(4, Priority::Low));
    until_waiting(&redis, "windlass:q:low:1", 3).await;
    assert_eq!(calls().await, before);
}

#[tokio::test]
async fn a_killed_redis_that_comes_back_empty_is_used_again() {
    let mut redis = Redis::start();
    let (api, worker) = (process(&redis).await, process(&redis).await);
    let mut rings = worker.rings();
    let mut news = api.subscribe(run_id(1)).await;
    let mut pokes = worker.pokes(session(1));
    until_heard(&api, &mut *rings, run_id(1)).await;

    redis.kill();
    // The worker's own rings, such as those of its sweep, need no Redis.
    worker.ring(ring(2, Priority::Normal));
    until_heard(&worker, &mut *rings, run_id(3)).await;
    // Whoever watches is told to read the log, and whoever comes does not wait.
    until_missed(&mut news).await;
    let began = Instant::now();
    let mut later = api.subscribe(run_id(4)).await;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());

    redis.start_again();
    until(|| api.is_connected() && worker.is_connected()).await;
    until_heard(&api, &mut *rings, run_id(5)).await;
    until_published(&*worker, run_id(1), &mut news).await;
    until_published(&*worker, run_id(4), &mut later).await;
    let began = Instant::now();
    while timeout(Duration::from_millis(50), pokes.recv()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "no poke arrives");
        api.poke(session(1), ring(1, Priority::Normal));
    }
}

#[tokio::test]
async fn a_redis_that_stands_still_for_a_while_stops_nobody() {
    let redis = Redis::start();
    let (api, worker) = (process(&redis).await, process(&redis).await);
    let mut rings = worker.rings();
    let mut news = api.subscribe(run_id(1)).await;
    until_heard(&api, &mut *rings, run_id(1)).await;

    redis.freeze();
    let frozen_at = Instant::now();
    let _later = api.subscribe(run_id(2)).await;
    assert!(frozen_at.elapsed() < PROMPT, "{:?}", frozen_at.elapsed());
    // Sent before anybody could know, and then kept: heard all the same, and before Redis moves again.
    worker.ring(ring(3, Priority::High));
    let mut heard = Vec::new();
    while !heard.contains(&ring(3, Priority::High)) {
        heard = timeout(Duration::from_millis(2_500), rings.take(10)).await.expect("its own ring");
    }
    assert!(frozen_at.elapsed() < Duration::from_secs(3), "{:?}", frozen_at.elapsed());
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(frozen_at.elapsed())).await;
    redis.thaw();

    until(|| api.is_connected() && worker.is_connected()).await;
    until_heard(&api, &mut *rings, run_id(4)).await;
    until_published(&*worker, run_id(1), &mut news).await;
}

#[tokio::test]
async fn a_bus_begins_without_redis_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.kill();
    let bus = RedisBus::connect(&redis.url()).unwrap();
    let mut rings = bus.rings();
    bus.ring(ring(1, Priority::Normal));
    assert_eq!(timeout(PROMPT, rings.take(10)).await.expect("its own ring"), [ring(1, Priority::Normal)]);
    let mut news = bus.subscribe(run_id(1)).await;
    redis.start_again();
    until_published(&*bus, run_id(1), &mut news).await;
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_stops_nobody() {
    let redis = Redis::start();
    let worker = process(&redis).await;
    let mut rings = worker.rings();
    until_heard(&worker, &mut *rings, run_id(1)).await;
    let _: String = ask(&redis, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    for n in 2..5 {
        until_heard(&worker, &mut *rings, run_id(n)).await;
    }
    let _: String = ask(&redis, &[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    until(|| worker.is_connected()).await;
    until_heard(&worker, &mut *rings, run_id(5)).await;
}

#[test]
fn an_address_that_is_wrong_is_refused_without_repeating_it() {
    for url in ["http://u:hunter2@redis", "hunter2", "rediss://u:hunter2@redis:6379", ""] {
        let Err(error) = RedisBus::connect(url) else { panic!("{url} was taken") };
        assert!(!error.to_string().contains("hunter2"));
    }
}

async fn until_missed(news: &mut Subscription) {
    let missed = async { while !matches!(news.recv().await, Ok(News::Missed)) {} };
    timeout(PATIENCE, missed).await.expect("watchers are told");
}

/// Publishes until it is heard: the first may be lost while both sides find their way.
async fn until_published(bus: &dyn Bus, run_id: RunId, news: &mut Subscription) {
    let began = Instant::now();
    loop {
        bus.publish(run_id, vec![resumed(77)]);
        let heard = async {
            loop {
                if let Ok(News::Event(event)) = news.recv().await {
                    return event;
                }
            }
        };
        if let Ok(event) = timeout(Duration::from_millis(100), heard).await {
            return assert_eq!(event.seq, EventSeq(77));
        }
        assert!(began.elapsed() < PATIENCE, "no news arrive");
    }
}
