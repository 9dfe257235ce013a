-- Differs from SQLite's: a whole batch in one statement. A run whose definition is not there, or is another tenant's,
-- is not written, nor one whose definition is not what it is pinned as: 0 inline, 1 a version of a workflow that is not
-- hidden, 2 the latest of them. `create_run.keyed.sql` also knows keys and labels.
--
-- Every run: $1 id, tenant, version_id, priority, status, paused_reason, wake_at, started_at, ended_at, error,
--            and its first event: $11 at, code, actor, $14 data; $15 what it is pinned as,
--            $16 the run whose step starts it, or null
with t as materialized (
    select x.*
      from unnest($1::uuid[], $2::int4[], $3::int8[], $4::int2[], $5::text[], $6::text[], $7::timestamptz[],
                  $8::timestamptz[], $9::timestamptz[], $10::text[], $11::timestamptz[], $12::int2[], $13::text[],
                  $14::text[], $15::int2[], $16::uuid[])
           with ordinality
           as x (id, tenant, version_id, priority, status, paused_reason, wake_at,
                 started_at, ended_at, error, at, code, actor,
                 data, pin, parent_id, ord)
      join workflow_versions v on v.id = x.version_id and v.id = any ($3) and v.tenant = x.tenant
     where x.pin = 0
        or (select w.hidden_at is null and (x.pin = 1 or w.latest_version = v.version)
              from workflows w
             where w.id = v.workflow_id)),
r as (
    insert into workflow_runs (id, parent_id, version_id, last_activity_at, created_at, started_at, ended_at, wake_at, tenant,
                               version, next_seq, epoch, priority, status, paused_reason, error)
    select id, parent_id, version_id, clock_timestamp(), at, started_at, ended_at, wake_at, tenant,
           1, 2, 0, priority, status, paused_reason, error
      from t
    returning id),
e as (
    insert into workflow_run_events (run_id, at, seq, code, actor, data)
    select r.id, t.at, 1, t.code, t.actor, t.data::json
      from t
      join r on r.id = t.id)
select (select array_agg(ord::int4) from t) as known, (select array_agg(t.ord::int4) from t join r on r.id = t.id) as written
