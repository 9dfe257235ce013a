-- Differs from SQLite's: a whole batch in one statement. Events join the rows that the update returned, so that a
-- lost lease drops its own events and harms no other run.
--
-- Wants a connection whose planner settings leave one plan: ids through the primary key, hash joins for the rest.
-- `is not distinct from` keeps the lease from being looked up through an index of its own, row by row.
--
-- Every run:    $1 id, tenant, version, first seq or null, count of events, session or null for the door, epoch,
--               whether it is let go, status, paused_reason, wake_at, started_at, ended_at, $14 error
-- Every event:  $15 the run's place in the batch, at, seq, epoch, item, code, node, attempt, actor, $24 data
-- Closed gates: $25 the run's place in the batch, run, node and attempt or null for all of the run's, decision, $30 by
with u as (
    update workflow_runs r
       set version = r.version + 1,
           next_seq = r.next_seq + t.events,
           last_activity_at = clock_timestamp(),
           status = t.status,
           paused_reason = t.paused_reason,
           wake_at = t.wake_at,
           started_at = t.started_at,
           ended_at = t.ended_at,
           error = t.error,
           lease_owner = case when not t.let_go then r.lease_owner end,
           attention = t.session is null and not t.let_go and r.lease_owner is not null
      from unnest($1::uuid[], $2::int4[], $3::int4[], $4::int4[], $5::int4[], $6::uuid[], $7::int4[], $8::bool[],
                  $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::text[])
           with ordinality
           as t (id, tenant, version, first_seq, events, session, epoch, let_go,
                 status, paused_reason, wake_at, started_at, ended_at, error, ord)
     where r.id = t.id
       and r.id = any ($1)
       and r.tenant = t.tenant
       and r.version = t.version
       and (t.first_seq is null or r.next_seq = t.first_seq)
       and (t.session is null or (r.epoch = t.epoch and r.lease_owner is not distinct from t.session))
       and r.status not in ('completed', 'failed', 'canceled')
    returning r.id, t.ord),
e as (
    insert into workflow_run_events (run_id, at, seq, epoch, item, code, node, attempt, actor, data)
    select u.id, x.at, x.seq, x.epoch, x.item, x.code, x.node, x.attempt, x.actor, x.data::json
      from unnest($15::int4[], $16::timestamptz[], $17::int4[], $18::int4[], $19::int4[], $20::int2[], $21::int2[],
                  $22::int2[], $23::text[], $24::text[])
           as x (ord, at, seq, epoch, item, code, node, attempt, actor, data)
      join u on u.ord = x.ord),
g as (
    update approvals a
       set decided_at = clock_timestamp(), decision = x.decision, decided_by = x.by
      from unnest($25::int4[], $26::uuid[], $27::text[], $28::int4[], $29::text[], $30::text[])
           as x (ord, run_id, node, attempt, decision, by)
      join u on u.ord = x.ord
     where a.run_id = x.run_id and a.run_id = any ($26) and a.decided_at is null
       and (x.node is null or (a.node = x.node and a.attempt = x.attempt)))
select array_agg(ord::int4) from u
