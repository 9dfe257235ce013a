//! Workflows, their versions, and definitions that came inline.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Subject;
use super::subject::*;
use crate::{NewRun, NewWorkflow, Pin, Precondition, PutWorkflow, WorkflowFilter, WriteError};

pub(super) fn workflow(name: &str, spec: &str) -> NewWorkflow {
    NewWorkflow {
        tenant: TENANT,
        definition: definition(name, spec),
        tags: vec!["docs".into()],
        precondition: Precondition::None,
        remember: None,
    }
}

async fn put(subject: &Subject, new: NewWorkflow) -> PutWorkflow {
    subject.store.put_workflow(new).await.expect("the precondition holds")
}

pub async fn a_workflow_is_published_and_read_back(subject: &Subject) {
    let new = workflow("notes", r#"{"name":"notes"}"#);
    let put = put(subject, new.clone()).await;
    assert!(put.created && put.new_version);
    let row = put.workflow;
    assert_eq!((row.name.as_str(), row.revision, row.latest_version), ("notes", 1, 1));
    assert_eq!((&row.hash, &row.tags), (&new.definition.hash, &new.tags));
    assert_eq!(row.created_at, row.updated_at);
    assert_eq!(subject.store.get_workflow(TENANT, "notes").await.unwrap(), Some(row.clone()));

    let version = subject.store.get_version(TENANT, "notes", None).await.unwrap().unwrap();
    assert_eq!((version.name.as_str(), version.version), ("notes", Some(1)));
    assert_eq!((&version.hash, &version.spec), (&row.hash, &new.definition.spec));
    assert_eq!(version.created_at, row.created_at);
    assert_eq!(subject.store.get_definition(version.id).await.unwrap(), Some(version.clone()));
    assert_eq!(subject.store.get_version(TENANT, "notes", Some(1)).await.unwrap(), Some(version.clone()));
    assert_eq!(subject.store.get_version(TENANT, "notes", Some(2)).await.unwrap(), None);

    subject.store.create_run(new_run(1, version.id)).await.unwrap();
    let run = subject.row(1).await;
    assert_eq!((run.workflow.as_str(), run.workflow_version), ("notes", Some(1)));
}

/// Whoever asks for a workflow by its name gets its latest version, whatever was read before.
pub async fn a_run_is_written_only_if_its_pin_holds(subject: &Subject) {
    let version = async |number| {
        let found = subject.store.get_version(TENANT, "notes", number).await.unwrap();
        found.expect("it was published").id
    };
    put(subject, workflow("notes", "1")).await;
    let first = version(None).await;
    let pinned = |n, version_id, pin| NewRun { pin, ..new_run(n, version_id) };
    for (n, pin) in [(1, Pin::Inline), (2, Pin::Version), (3, Pin::Latest)] {
        subject.store.create_run(pinned(n, first, pin)).await.unwrap();
    }
    put(subject, workflow("notes", "2")).await;
    let mut late = pinned(4, first, Pin::Latest);
    late.remember = Some(remember("late"));
    let moved = subject.store.create_run(late.clone()).await;
    assert!(matches!(moved, Err(WriteError::Moved)), "{moved:?}");
    assert_eq!(subject.store.get_run(TENANT, run_id(4)).await.unwrap(), None);
    // The key was not used either.
    late.version_id = version(None).await;
    subject.store.create_run(late).await.unwrap();
    subject.store.create_run(pinned(5, first, Pin::Version)).await.unwrap();

    subject.store.delete_workflow(TENANT, "notes", None).await.unwrap();
    for (n, pin) in [(6, Pin::Version), (7, Pin::Latest)] {
        let hidden = subject.store.create_run(pinned(n, first, pin)).await;
        assert!(matches!(hidden, Err(WriteError::Moved)), "{hidden:?}");
    }
    subject.store.create_run(pinned(8, first, Pin::Inline)).await.unwrap();
    let inline = subject.definition().await;
    let nowhere = subject.store.create_run(pinned(9, inline, Pin::Latest)).await;
    assert!(matches!(nowhere, Err(WriteError::Moved)), "{nowhere:?}");
}

pub async fn the_same_content_makes_no_new_version(subject: &Subject) {
    let first = put(subject, workflow("notes", "1")).await;
    subject.clock.advance(Duration::from_secs(1));
    let again = put(subject, workflow("notes", "1")).await;
    assert!(!again.created && !again.new_version);
    assert_eq!(again.workflow, first.workflow);
    assert_eq!(subject.store.list_versions(TENANT, "notes", None, 10).await.unwrap().unwrap().len(), 1);
}

pub async fn a_change_makes_a_new_version_and_a_new_revision(subject: &Subject) {
    let first = put(subject, workflow("notes", "1")).await.workflow;
    subject.clock.advance(Duration::from_secs(1));
    let second = put(subject, workflow("notes", "2")).await;
    assert!(!second.created && second.new_version);
    let row = second.workflow;
    assert_eq!((row.revision, row.latest_version, &row.hash), (2, 2, &definition("notes", "2").hash));
    assert!(row.created_at == first.created_at && row.updated_at > first.updated_at);
    let latest = subject.store.get_version(TENANT, "notes", None).await.unwrap().unwrap();
    assert_eq!((latest.version, latest.spec.as_str()), (Some(2), "2"));
    let older = subject.store.get_version(TENANT, "notes", Some(1)).await.unwrap().unwrap();
    assert_eq!(older.spec, "1");
    // Only the latest counts: going back to what was before is a change, too.
    assert_eq!(put(subject, workflow("notes", "1")).await.workflow.latest_version, 3);
}

pub async fn tags_alone_make_a_new_revision(subject: &Subject) {
    put(subject, workflow("notes", "1")).await;
    let tags = vec!["b".to_owned(), "a \"quoted\"".to_owned()];
    let tagged = put(subject, NewWorkflow { tags: tags.clone(), ..workflow("notes", "1") }).await;
    assert!(!tagged.new_version);
    assert_eq!((tagged.workflow.revision, tagged.workflow.latest_version), (2, 1));
    assert_eq!(subject.store.get_workflow(TENANT, "notes").await.unwrap().unwrap().tags, tags);
    let untagged = put(subject, NewWorkflow { tags: Vec::new(), ..workflow("notes", "1") }).await;
    assert_eq!((untagged.workflow.revision, untagged.workflow.tags.len()), (3, 0));
}

pub async fn a_precondition_that_does_not_hold_writes_nothing(subject: &Subject) {
    let with = |precondition| NewWorkflow { precondition, ..workflow("notes", "2") };
    let early = subject.store.put_workflow(with(Precondition::Revision(1))).await;
    assert!(matches!(early, Err(WriteError::Moved)), "{early:?}");
    assert_eq!(subject.store.get_workflow(TENANT, "notes").await.unwrap(), None);

    let first = put(subject, workflow("notes", "1")).await.workflow;
    for precondition in [Precondition::Absent, Precondition::Revision(0), Precondition::Revision(2)] {
        let result = subject.store.put_workflow(with(precondition)).await;
        assert!(matches!(result, Err(WriteError::Moved)), "{precondition:?}: {result:?}");
    }
    assert_eq!(subject.store.get_workflow(TENANT, "notes").await.unwrap(), Some(first));
    assert_eq!(put(subject, with(Precondition::Revision(1))).await.workflow.revision, 2);
}

pub async fn of_many_first_publications_one_succeeds(subject: &Subject) {
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let store = subject.store.clone();
        let new = NewWorkflow { precondition: Precondition::Absent, ..workflow("notes", &n.to_string()) };
        tasks.spawn(async move { store.put_workflow(new).await });
    }
    let mut created = 0;
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            Ok(_) => created += 1,
            Err(error) => assert!(matches!(error, WriteError::Moved), "{error:?}"),
        }
    }
    assert_eq!(created, 1);
}

pub async fn versions_are_listed_newest_first(subject: &Subject) {
    for n in 1..=5 {
        put(subject, workflow("notes", &n.to_string())).await;
        put(subject, workflow("other", &n.to_string())).await;
    }
    let page =
        async |before, limit| -> Vec<u32> {
            let rows = subject.store.list_versions(TENANT, "notes", before, limit).await.unwrap().unwrap();
            assert!(rows.iter().all(
                |row| row.name == "notes" && Some(row.spec.clone()) == row.version.map(|n| n.to_string())
            ));
            rows.iter().filter_map(|row| row.version).collect()
        };
    assert_eq!(page(None, 2).await, [5, 4]);
    assert_eq!(page(Some(4), 2).await, [3, 2]);
    assert_eq!(page(Some(2), 2).await, [1]);
    assert!(page(Some(1), 2).await.is_empty());
}

pub async fn a_deleted_workflow_is_hidden_and_its_runs_keep_their_definition(subject: &Subject) {
    put(subject, workflow("notes", "1")).await;
    let version = subject.store.get_version(TENANT, "notes", None).await.unwrap().unwrap();
    subject.store.create_run(new_run(1, version.id)).await.unwrap();
    assert!(subject.store.delete_workflow(TENANT, "notes", None).await.unwrap());
    assert!(!subject.store.delete_workflow(TENANT, "notes", None).await.unwrap());

    let store = &subject.store;
    assert_eq!(store.get_workflow(TENANT, "notes").await.unwrap(), None);
    assert_eq!(store.list_versions(TENANT, "notes", None, 10).await.unwrap(), None);
    assert_eq!(store.get_version(TENANT, "notes", None).await.unwrap(), None);
    assert_eq!(store.get_version(TENANT, "notes", Some(1)).await.unwrap(), None);
    assert_eq!(store.list_workflows(TENANT, &WorkflowFilter::default(), None, 10).await.unwrap(), []);
    assert_eq!(store.get_definition(version.id).await.unwrap(), Some(version));
    assert_eq!(subject.row(1).await.workflow, "notes");
}

pub async fn a_deleted_workflow_can_be_published_again(subject: &Subject) {
    let before = put(subject, workflow("notes", "1")).await.workflow;
    subject.store.delete_workflow(TENANT, "notes", Some(before.revision)).await.unwrap();
    subject.clock.advance(Duration::from_secs(1));
    let with = NewWorkflow { precondition: Precondition::Absent, ..workflow("notes", "2") };
    let again = put(subject, with).await;
    assert!(again.created && again.new_version);
    // Numbers go on, so that neither an ETag nor a version ever means two things.
    assert!(again.workflow.revision > before.revision);
    assert_eq!(again.workflow.latest_version, 2);
    assert!(again.workflow.created_at > before.created_at);
    assert_eq!(subject.store.get_version(TENANT, "notes", None).await.unwrap().unwrap().spec, "2");
}

pub async fn a_deletion_respects_its_revision(subject: &Subject) {
    put(subject, workflow("notes", "1")).await;
    put(subject, workflow("notes", "2")).await;
    let stale = subject.store.delete_workflow(TENANT, "notes", Some(1)).await;
    assert!(matches!(stale, Err(WriteError::Moved)), "{stale:?}");
    assert!(subject.store.get_workflow(TENANT, "notes").await.unwrap().is_some());
    assert!(subject.store.delete_workflow(TENANT, "notes", Some(2)).await.unwrap());
    assert!(!subject.store.delete_workflow(TENANT, "notes", Some(3)).await.unwrap());
    assert!(!subject.store.delete_workflow(TENANT, "nothing", Some(1)).await.unwrap());
}

pub async fn an_inline_definition_is_stored_once(subject: &Subject) {
    let store = &subject.store;
    let id = store.put_inline(TENANT, definition("notes", "1")).await.unwrap();
    assert_eq!(store.put_inline(TENANT, definition("notes", "1")).await.unwrap(), id);
    assert_ne!(store.put_inline(TENANT, definition("notes", "2")).await.unwrap(), id);
    let row = store.get_definition(id).await.unwrap().unwrap();
    assert_eq!((row.id, row.name.as_str(), row.version, row.spec.as_str()), (id, "notes", None, "1"));
    // A published workflow of the same content is something else.
    put(subject, workflow("notes", "1")).await;
    assert_ne!(store.get_version(TENANT, "notes", None).await.unwrap().unwrap().id, id);
    assert_eq!(store.put_inline(TENANT, definition("notes", "1")).await.unwrap(), id);
}

pub async fn workflows_are_listed_by_name(subject: &Subject) {
    for name in ["b", "a-2", "a", "c", "a_1"] {
        put(subject, workflow(name, "1")).await;
    }
    let page = async |after: Option<&str>, limit| -> Vec<String> {
        let rows =
            subject.store.list_workflows(TENANT, &WorkflowFilter::default(), after, limit).await.unwrap();
        rows.into_iter().map(|row| row.name).collect()
    };
    assert_eq!(page(None, 10).await, ["a", "a-2", "a_1", "b", "c"]);
    assert_eq!(page(None, 2).await, ["a", "a-2"]);
    assert_eq!(page(Some("a-2"), 2).await, ["a_1", "b"]);
    assert_eq!(page(Some("aaa"), 10).await, ["b", "c"]);
    assert_eq!(page(Some("c"), 2).await, Vec::<String>::new());
}

pub async fn workflows_are_found_by_tag_and_text(subject: &Subject) {
    for (name, tags) in
        [("release-notes", vec!["docs", "50%"]), ("release_train", vec!["ops"]), ("refund", vec![])]
    {
        let tags = tags.into_iter().map(str::to_owned).collect();
        put(subject, NewWorkflow { tags, ..workflow(name, "1") }).await;
    }
    let found = async |tag: Option<&str>, text: Option<&str>| -> Vec<String> {
        let filter = WorkflowFilter { tag: tag.map(str::to_owned), text: text.map(str::to_owned) };
        let rows = subject.store.list_workflows(TENANT, &filter, None, 10).await.unwrap();
        rows.into_iter().map(|row| row.name).collect()
    };
    let none = Vec::<String>::new();
    assert_eq!(found(Some("docs"), None).await, ["release-notes"]);
    assert_eq!(found(Some("50%"), None).await, ["release-notes"]);
    assert_eq!(found(Some("doc"), None).await, none);
    assert_eq!(found(Some("' or 1=1 --"), None).await, none);
    assert_eq!(found(None, Some("RELEASE")).await, ["release-notes", "release_train"]);
    assert_eq!(found(None, Some("e_t")).await, ["release_train"]);
    assert_eq!(found(None, Some("%")).await, none);
    assert_eq!(found(None, Some("'")).await, none);
    assert_eq!(found(Some("ops"), Some("train")).await, ["release_train"]);
    assert_eq!(found(Some("ops"), Some("notes")).await, none);
}
