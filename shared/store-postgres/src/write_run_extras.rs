//! What some writes bring along besides events: folds, content, messages, changes of the inbox.

use sqlx::postgres::PgConnection;
use windlass_model::payload::Blob;
use windlass_model::{EventSeq, TenantId, Timestamp};
use windlass_store::{ApprovalChange, ApprovalDecision};

use crate::fault::Fault;
use crate::types::{At, int4};
use crate::write_run::Append;
use crate::{blobs, create_run, groups, query};

/// For writes whose events are written already, in the order of their runs. Wants a transaction around it.
pub(crate) async fn write(db: &mut PgConnection, appends: &[&Append]) -> Result<(), Fault> {
    keep_snapshots(db, appends).await?;
    blobs::keep(db, &content_of(appends)).await?;
    send(db, appends).await?;
    start_children(db, appends).await?;
    finish_children(db, appends).await?;
    let ended = appends.iter().filter(|append| append.write.leaves_group).map(|append| append.write.run_id.0);
    groups::leave(db, ended.collect()).await?;
    // Several changes of one inbox come in an order that matters. One that only closes is made already.
    for append in appends.iter().filter(|append| append.closing().is_none()) {
        for change in &append.write.approvals {
            change_approval(db, append, change).await?;
        }
    }
    Ok(())
}

fn content_of<'a>(appends: &[&'a Append]) -> Vec<(TenantId, &'a Blob)> {
    appends.iter().flat_map(|it| it.write.blobs.iter().map(|blob| (it.write.tenant, blob))).collect()
}

async fn keep_snapshots(db: &mut PgConnection, appends: &[&Append]) -> Result<(), Fault> {
    let (mut ids, mut seqs, mut formats, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for append in appends {
        if let Some(snapshot) = &append.snapshot {
            ids.push(append.write.run_id.0);
            seqs.push(int4(snapshot.seq.0));
            formats.push(int4(snapshot.format));
            states.push(snapshot.state.as_str());
        }
    }
    if !ids.is_empty() {
        sqlx::query(query!("write_run.snapshot"))
            .bind(ids)
            .bind(seqs)
            .bind(formats)
            .bind(states)
            .execute(db)
            .await?;
    }
    Ok(())
}

async fn send(db: &mut PgConnection, appends: &[&Append]) -> Result<(), Fault> {
    let (mut tenants, mut ids, mut seqs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut topics, mut bodies) = (Vec::new(), Vec::new());
    for append in appends {
        for message in &append.write.outbox {
            tenants.push(append.write.tenant.0);
            ids.push(append.write.run_id.0);
            seqs.push(int4(message.seq.0));
            topics.push(message.topic.as_str());
            bodies.push(message.body.to_string());
        }
    }
    if !ids.is_empty() {
        sqlx::query(query!("write_run.outbox"))
            .bind(tenants)
            .bind(ids)
            .bind(seqs)
            .bind(topics)
            .bind(bodies)
            .execute(db)
            .await?;
    }
    Ok(())
}

async fn start_children(db: &mut PgConnection, appends: &[&Append]) -> Result<(), Fault> {
    let children: Vec<_> = appends.iter().flat_map(|append| &append.children).collect();
    if children.is_empty() { Ok(()) } else { create_run::write_children(db, &children).await }
}

async fn finish_children(db: &mut PgConnection, appends: &[&Append]) -> Result<(), Fault> {
    let (mut ids, mut tenants, mut parents) = (Vec::new(), Vec::new(), Vec::new());
    for append in appends {
        for child in &append.write.finished {
            ids.push(child.0);
            tenants.push(append.write.tenant.0);
            parents.push(append.write.run_id.0);
        }
    }
    if !ids.is_empty() {
        let query = sqlx::query(query!("write_run.finished")).bind(ids).bind(tenants).bind(parents);
        query.execute(db).await?;
    }
    Ok(())
}

async fn change_approval(
    db: &mut PgConnection,
    append: &Append,
    change: &ApprovalChange,
) -> Result<(), Fault> {
    match change {
        ApprovalChange::Opened { node, attempt, seq, expires_at } => {
            close(db, append, (Some(node), None), ApprovalDecision::Withdrawn, None).await?;
            sqlx::query(query!("write_run.approval_opened"))
                .bind(append.write.run_id.0)
                .bind(int4(seq.0))
                .bind(append.write.tenant.0)
                .bind(node)
                .bind(i32::from(*attempt))
                .bind(time_of(append, *seq).map(At))
                .bind(expires_at.map(At))
                .execute(db)
                .await?;
            Ok(())
        }
        ApprovalChange::Closed { node, attempt, decision, by } => {
            close(db, append, (Some(node), Some(*attempt)), *decision, by.as_deref()).await
        }
        ApprovalChange::ClosedAll => close(db, append, (None, None), ApprovalDecision::Withdrawn, None).await,
    }
}

async fn close(
    db: &mut PgConnection,
    append: &Append,
    (node, attempt): (Option<&str>, Option<u16>),
    decision: ApprovalDecision,
    by: Option<&str>,
) -> Result<(), Fault> {
    sqlx::query(query!("write_run.approval_closed"))
        .bind(append.write.run_id.0)
        .bind(decision.as_str())
        .bind(by)
        .bind(node)
        .bind(attempt.map(i32::from))
        .execute(db)
        .await?;
    Ok(())
}

fn time_of(append: &Append, seq: EventSeq) -> Option<Timestamp> {
    append.events.iter().find(|event| event.seq == seq).map(|event| event.at)
}
