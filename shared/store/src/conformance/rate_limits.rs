//! Rate limits that all workers share.

use std::time::Duration;

use tokio::task::JoinSet;
use windlass_model::callee::CalleeKind;
use windlass_model::rate_limit::{LimitKey, Limited, OnLimit, RateLimit, Turn};

use super::Subject;
use super::subject::*;

const MINUTE: Duration = Duration::from_secs(60);

fn key(name: &str) -> LimitKey {
    LimitKey { tenant: TENANT, kind: Limited::Calls(CalleeKind::Tool), name: name.into() }
}

fn limit(turns: u32, burst: u32) -> RateLimit {
    RateLimit { turns, per: MINUTE, burst, on_limit: OnLimit::Wait }
}

async fn take(subject: &Subject, name: &str, limit: RateLimit) -> Turn {
    subject.store.take_turn(key(name), limit).await.unwrap()
}

pub async fn turns_come_in_the_order_in_which_they_are_asked_for(subject: &Subject) {
    let limit = limit(6, 2);
    let began = subject.store.now().await.unwrap();
    assert_eq!((take(subject, "a", limit).await, take(subject, "a", limit).await), (Turn::Now, Turn::Now));
    let mut last = began;
    for nth in 1..=3 {
        let Turn::At(at) = take(subject, "a", limit).await else { panic!("the burst was taken") };
        assert!(at > last, "{at} does not come after {last}");
        assert!(at >= began.plus(Duration::from_secs(10 * (nth - 1))), "{at} comes too early");
        assert!(at <= subject.store.now().await.unwrap().plus(Duration::from_secs(10 * nth)));
        last = at;
    }
    assert_eq!(take(subject, "b", limit).await, Turn::Now, "another name has turns of its own");
}

pub async fn turns_come_again_as_time_passes(subject: &Subject) {
    let limit = limit(6, 1);
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
    assert!(matches!(take(subject, "a", limit).await, Turn::At(_)));
    subject.clock.advance(MINUTE);
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
}

pub async fn who_will_not_wait_is_told_when_and_takes_nothing(subject: &Subject) {
    let limit = RateLimit { on_limit: OnLimit::Reject, ..limit(6, 1) };
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
    for _ in 0..3 {
        let turn = take(subject, "a", limit).await;
        assert!(matches!(turn, Turn::Refused { retry_after } if retry_after <= MINUTE / 6), "{turn:?}");
    }
    subject.clock.advance(MINUTE / 6);
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
}

pub async fn of_many_who_ask_at_once_each_has_a_turn_of_its_own(subject: &Subject) {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let store = subject.store.clone();
        tasks.spawn(async move { store.take_turn(key("a"), limit(60, 5)).await.unwrap() });
    }
    let turns = tasks.join_all().await;
    assert_eq!(turns.iter().filter(|turn| **turn == Turn::Now).count(), 5, "{turns:?}");
    let mut times: Vec<_> =
        turns.iter().filter_map(|turn| if let Turn::At(at) = turn { Some(*at) } else { None }).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 15, "{turns:?}");
}

pub async fn limits_are_listed_by_kind_and_name_and_belong_to_their_tenant(subject: &Subject) {
    let store = &subject.store;
    let runs = LimitKey { kind: Limited::Runs, ..key("c") };
    let theirs = LimitKey { tenant: OTHER_TENANT, ..key("a") };
    let reject = RateLimit { on_limit: OnLimit::Reject, ..limit(6, 1) };
    for (key, limit) in
        [(key("b"), limit(6, 1)), (key("a"), reject), (runs.clone(), limit(7, 2)), (theirs.clone(), reject)]
    {
        assert_eq!(store.take_turn(key, limit).await.unwrap(), Turn::Now);
    }
    let list = async |after, limit| store.list_rate_limits(TENANT, after, limit).await.unwrap();
    let all = list(None, 100).await;
    assert_eq!(
        all.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        [key("a"), key("b"), runs.clone()]
    );
    assert_eq!((all[0].1.limit, all[2].1.limit), (reject, limit(7, 2)));
    let next = list(Some((Limited::Calls(CalleeKind::Tool), "a".into())), 1).await;
    assert_eq!(next.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [key("b")]);
    assert_eq!(store.list_rate_limits(OTHER_TENANT, None, 100).await.unwrap().len(), 1);
}

pub async fn a_limit_that_was_reset_has_all_its_turns(subject: &Subject) {
    let store = &subject.store;
    let limit = limit(1, 1);
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
    assert!(!store.reset_rate_limit(LimitKey { tenant: OTHER_TENANT, ..key("a") }).await.unwrap());
    assert!(matches!(take(subject, "a", limit).await, Turn::At(_)));
    assert!(store.reset_rate_limit(key("a")).await.unwrap());
    assert!(!store.reset_rate_limit(key("a")).await.unwrap());
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
}

pub async fn a_limit_that_nobody_has_asked_for_long_is_forgotten(subject: &Subject) {
    let (store, age, limit) = (&subject.store, Duration::from_secs(3_600), limit(6, 1));
    for name in ["a", "b", "c"] {
        take(subject, name, limit).await;
    }
    subject.clock.advance(age);
    assert_eq!(store.clean_up(age, 100).await.unwrap(), 0, "the next turn came ten seconds later");
    take(subject, "c", limit).await;
    subject.clock.advance(MINUTE);
    for forgotten in [1, 1, 0] {
        assert_eq!(store.clean_up(age, 1).await.unwrap(), forgotten);
    }
    let left = store.list_rate_limits(TENANT, None, 100).await.unwrap();
    assert_eq!(left.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(take(subject, "a", limit).await, Turn::Now);
}
