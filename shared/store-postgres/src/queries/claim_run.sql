-- Differs from SQLite's: a whole batch in one statement, and it reads the history, too, as it was when the statement
-- began. Wants a connection whose planner settings leave one plan: each run through the primary key, in nested loops.
-- (`= any ($1)` beside a join, which ticks need, would be looked up as a whole for every row here.)
--
-- Every claim: $1 run id, session, stale_after, $4 data of `run.engine_taken`.   $5 the format of folds
with n as materialized (
    select clock_timestamp() as now),
t as materialized (
    select * from unnest($1::uuid[], $2::uuid[], $3::interval[], $4::text[]) with ordinality
                  as t (id, session, stale_after, data, ord)),
c as materialized (
    select r.id, t.session, t.data, t.ord, n.now
      from t
      join workflow_runs r on r.id = t.id
     cross join n
     where r.status not in ('completed', 'failed', 'canceled')
       and case when r.lease_owner is null
                then r.status in ('queued', 'running') or coalesce(r.wake_at <= n.now, false)
                     or exists (select from workflow_runs x
                                 where x.parent_id = r.id and not x.parent_told and x.ended_at is not null)
                else r.last_activity_at < n.now - t.stale_after
                     or not exists (select from worker_sessions s where s.id = r.lease_owner and s.expires_at > n.now)
           end
     order by r.id
       for no key update of r skip locked),
u as (
    update workflow_runs r
       set lease_owner = c.session,
           epoch = r.epoch + 1,
           version = r.version + 1,
           next_seq = r.next_seq + 1,
           last_activity_at = c.now,
           started_at = coalesce(r.started_at, c.now),
           status = case when r.status in ('queued', 'waiting') then 'running' else r.status end,
           attention = false
      from c
     where r.id = c.id
    returning r.*, c.ord, c.data),
e as (
    insert into workflow_run_events (run_id, at, seq, epoch, code, data)
    select u.id, u.last_activity_at, u.next_seq - 1, u.epoch, 2, u.data::json
      from u)
select u.id, u.tenant, u.version_id, v.name as workflow, v.version as workflow_version, u.status, u.paused_reason,
       u.version, u.next_seq, u.wake_at, u.last_activity_at, u.lease_owner, u.epoch, u.priority, u.created_at,
       u.started_at, u.ended_at, u.error, u.parent_id,
       (select json_object_agg(l.key, l.value)::text from run_labels l where l.run_id = u.id) as labels,
       s.seq as snapshot_seq, s.format as snapshot_format, s.state as snapshot_state,
       h.*, u.ord::int4 as ord
  from u
  left join workflow_versions v on v.id = u.version_id
  left join run_snapshots s on s.run_id = u.id and s.format = $5
  left join lateral (
      select array_agg(e.seq) as seqs, array_agg(e.at) as ats, array_agg(e.code) as codes, array_agg(e.node) as nodes,
             array_agg(e.item) as items, array_agg(e.attempt) as attempts, array_agg(e.epoch) as epochs,
             array_agg(e.actor) as actors, array_agg(e.data::text) as datas
        from (select *
                from workflow_run_events e
               where e.run_id = u.id and e.seq > coalesce(s.seq, 0)
               order by e.seq) e) h on true
