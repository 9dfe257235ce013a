//! Pages of runs, and what narrows them.

use windlass_model::{PauseReason, RunStatus, Timestamp};

use super::Subject;
use super::subject::*;
use crate::{NewRun, Projection, RunFilter};

async fn found(subject: &Subject, filter: RunFilter) -> Vec<u32> {
    let all = subject.store.list_runs(TENANT, &filter, None, 100).await.unwrap();
    // In pages it is the same.
    let (mut paged, mut before) = (Vec::new(), None);
    loop {
        let page = subject.store.list_runs(TENANT, &filter, before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        paged.extend(page);
    }
    assert_eq!(paged, all, "{filter:?}");
    all.iter().map(|row| row.id.to_string().rsplit('-').next().unwrap().parse().unwrap()).collect()
}

/// Runs 1 to `count`, each changed before it is written.
async fn create(subject: &Subject, count: u32, change: impl Fn(u32, &mut NewRun)) {
    let version = subject.definition().await;
    for n in 1..=count {
        let mut run = new_run(n, version);
        change(n, &mut run);
        subject.store.create_run(run).await.unwrap();
    }
}

pub async fn runs_are_listed_newest_first_in_pages(subject: &Subject) {
    create(subject, 5, |_, _| {}).await;
    assert_eq!(found(subject, RunFilter::default()).await, [5, 4, 3, 2, 1]);
    let page = subject.store.list_runs(TENANT, &RunFilter::default(), Some(run_id(4)), 2).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [run_id(3), run_id(2)]);
    assert_eq!(page[1], subject.row(2).await);
    assert!(subject.store.list_runs(TENANT, &RunFilter::default(), None, 0).await.unwrap().is_empty());
}

pub async fn runs_are_found_by_status(subject: &Subject) {
    create(subject, 3, |_, _| {}).await;
    let paused = Projection { paused_reason: Some(PauseReason::Requested), ..projection(RunStatus::Paused) };
    subject.parked(4, 1, paused).await;
    subject.held(5, 1).await;
    subject.parked(6, 1, projection(RunStatus::Waiting)).await;
    let by = |statuses: &[RunStatus]| RunFilter { statuses: statuses.to_vec(), ..RunFilter::default() };
    assert_eq!(found(subject, by(&[RunStatus::Queued])).await, [3, 2, 1]);
    assert_eq!(found(subject, by(&[RunStatus::Queued, RunStatus::Running])).await, [5, 3, 2, 1]);
    assert_eq!(found(subject, by(&[RunStatus::Paused, RunStatus::Paused])).await, [4]);
    assert!(found(subject, by(&[RunStatus::Failed])).await.is_empty());
    assert_eq!(found(subject, by(RunStatus::ALL)).await, [6, 5, 4, 3, 2, 1]);
}

pub async fn runs_are_found_by_workflow(subject: &Subject) {
    let other = subject.definition_of(TENANT, "refund").await;
    create(subject, 5, |n, run| {
        if n % 2 == 0 {
            run.version_id = other;
        }
    })
    .await;
    let by = |workflow: &str| RunFilter { workflow: Some(workflow.into()), ..RunFilter::default() };
    assert_eq!(found(subject, by("refund")).await, [4, 2]);
    assert_eq!(found(subject, by("release-notes")).await, [5, 3, 1]);
    // A name is the whole name.
    assert!(found(subject, by("release")).await.is_empty());
    assert!(found(subject, by("REFUND")).await.is_empty());
    assert!(found(subject, by("%")).await.is_empty());
}

pub async fn runs_are_found_by_labels(subject: &Subject) {
    create(subject, 5, |n, run| {
        run.labels.insert("team".into(), if n < 4 { "a" } else { "b" }.into());
        run.labels.insert("odd".into(), (n % 2 == 1).to_string());
        if n == 5 {
            run.labels.insert("o'k".into(), "100%_\"'; --".into());
        }
    })
    .await;
    let by = |labels: &[(&str, &str)]| RunFilter {
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..RunFilter::default()
    };
    assert_eq!(found(subject, by(&[("team", "a")])).await, [3, 2, 1]);
    assert_eq!(found(subject, by(&[("team", "a"), ("odd", "true")])).await, [3, 1]);
    assert!(found(subject, by(&[("odd", "true"), ("team", "a"), ("odd", "false")])).await.is_empty());
    assert_eq!(found(subject, by(&[("o'k", "100%_\"'; --")])).await, [5]);
    assert!(found(subject, by(&[("team", "%")])).await.is_empty());
    assert!(found(subject, by(&[("team", "A")])).await.is_empty());
    assert!(found(subject, by(&[("nothing", "a")])).await.is_empty());
}

pub async fn runs_are_found_by_time(subject: &Subject) {
    create(subject, 5, |n, run| run.event.at = Timestamp(i64::from(n) * 10)).await;
    let between = |after: Option<i64>, before: Option<i64>| RunFilter {
        created_after: after.map(Timestamp),
        created_before: before.map(Timestamp),
        ..RunFilter::default()
    };
    assert_eq!(found(subject, between(Some(20), None)).await, [5, 4, 3]);
    assert_eq!(found(subject, between(None, Some(30))).await, [2, 1]);
    assert_eq!(found(subject, between(Some(10), Some(40))).await, [3, 2]);
    assert!(found(subject, between(Some(40), Some(10))).await.is_empty());
    assert_eq!(found(subject, between(Some(i64::MIN), Some(i64::MAX))).await, [5, 4, 3, 2, 1]);
}

pub async fn runs_are_found_by_text_in_any_case(subject: &Subject) {
    let other = subject.definition_of(TENANT, "refund").await;
    create(subject, 5, |n, run| match n {
        1 => drop(run.labels.insert("customer".into(), "Jane DOE".into())),
        2 => run.version_id = other,
        3 => run.projection.error = Some("http.503".into()),
        _ => {}
    })
    .await;
    let by = |text: &str| RunFilter { text: Some(text.into()), ..RunFilter::default() };
    assert_eq!(found(subject, by("jane d")).await, [1]);
    assert_eq!(found(subject, by("REFUND")).await, [2]);
    assert_eq!(found(subject, by("HTTP.5")).await, [3]);
    assert_eq!(found(subject, by("8000-000000000004")).await, [4]);
    assert_eq!(found(subject, by("release")).await, [5, 4, 3, 1]);
    // A label's key is not its value.
    assert!(found(subject, by("customer")).await.is_empty());
    assert_eq!(found(subject, by("")).await, [5, 4, 3, 2, 1]);
}

pub async fn text_is_taken_literally(subject: &Subject) {
    let values = ["100%", "a_b", "o'hara", "\"x\"", "back\\slash", "a*b?", "; drop table workflow_runs; --"];
    create(subject, values.len() as u32, |n, run| {
        run.labels.insert("v".into(), values[n as usize - 1].to_owned());
    })
    .await;
    for (n, text) in (1..).zip(["0%", "a_", "o'", "\"x", "k\\s", "a*", "; DROP"]) {
        let by = RunFilter { text: Some(text.into()), ..RunFilter::default() };
        assert_eq!(found(subject, by).await, [n], "{text}");
    }
    for text in ["' or 1=1 --", "\0", "%%", "__", "') or true --", "[a-z]"] {
        let by = RunFilter { text: Some(text.into()), ..RunFilter::default() };
        assert!(found(subject, by).await.is_empty(), "{text}");
        let by = RunFilter { workflow: Some(text.into()), ..RunFilter::default() };
        assert!(found(subject, by).await.is_empty(), "{text}");
        let by = RunFilter { labels: vec![(text.into(), text.into())], ..RunFilter::default() };
        assert!(found(subject, by).await.is_empty(), "{text}");
    }
    assert_eq!(found(subject, RunFilter::default()).await.len(), values.len());
}

pub async fn filters_narrow_each_other(subject: &Subject) {
    let other = subject.definition_of(TENANT, "refund").await;
    create(subject, 8, |n, run| {
        run.event.at = Timestamp(i64::from(n) * 10);
        run.labels.insert("half".into(), if n <= 4 { "first" } else { "second" }.into());
        run.labels.insert("n".into(), n.to_string());
        if n % 2 == 0 {
            run.version_id = other;
        }
        if n % 4 == 0 {
            run.projection.status = RunStatus::Canceling;
        }
    })
    .await;
    let filter = RunFilter {
        statuses: vec![RunStatus::Queued, RunStatus::Canceling],
        workflow: Some("refund".into()),
        parent: None,
        labels: vec![("half".into(), "second".into())],
        created_after: Some(Timestamp(10)),
        created_before: Some(Timestamp(80)),
        text: Some("REF".into()),
    };
    assert_eq!(found(subject, filter.clone()).await, [6]);
    assert_eq!(found(subject, RunFilter { created_before: None, ..filter.clone() }).await, [8, 6]);
    assert_eq!(found(subject, RunFilter { labels: Vec::new(), ..filter.clone() }).await, [6, 4, 2]);
    let labels = vec![("half".into(), "second".into()), ("n".into(), "6".into())];
    assert_eq!(found(subject, RunFilter { labels, ..filter }).await, [6]);
}
