-- SQLite needs no such statement. As `create_run.sql`, for batches in which a run has an idempotency key or labels:
-- a run whose key was used before is not written.
--
-- Every run:    $1 … $14 as there, $15 key id or null
-- Every key:    $16 the run's place in the batch, id, principal, route, key, request, status, body, $24 location
-- Every label:  $25 the run's place in the batch, key, $27 value
-- Every run:    $28 what it is pinned as, $29 the run whose step starts it, or null
with t as materialized (
    select x.*
      from unnest($1::uuid[], $2::int4[], $3::int8[], $4::int2[], $5::text[], $6::text[], $7::timestamptz[],
                  $8::timestamptz[], $9::timestamptz[], $10::text[], $11::timestamptz[], $12::int2[], $13::text[],
                  $14::text[], $15::uuid[], $28::int2[], $29::uuid[])
           with ordinality
           as x (id, tenant, version_id, priority, status, paused_reason, wake_at,
                 started_at, ended_at, error, at, code, actor,
                 data, key_id, pin, parent_id, ord)
      join workflow_versions v on v.id = x.version_id and v.id = any ($3) and v.tenant = x.tenant
     where x.pin = 0
        or (select w.hidden_at is null and (x.pin = 1 or w.latest_version = v.version)
              from workflows w
             where w.id = v.workflow_id)),
k as (
    insert into idempotency_keys (id, tenant, principal, route, key, request, status, body, location, created_at)
    select x.id, t.tenant, x.principal, x.route, x.key, x.request, x.status, x.body::json, x.location, clock_timestamp()
      from unnest($16::int4[], $17::uuid[], $18::text[], $19::text[], $20::text[], $21::text[], $22::int4[], $23::text[],
                  $24::text[])
           as x (ord, id, principal, route, key, request, status, body, location)
      join t on t.ord = x.ord
     order by x.id
    on conflict (id) do nothing
    returning id),
r as (
    insert into workflow_runs (id, parent_id, version_id, last_activity_at, created_at, started_at, ended_at, wake_at, tenant,
                               version, next_seq, epoch, priority, status, paused_reason, error)
    select t.id, t.parent_id, t.version_id, clock_timestamp(), t.at, t.started_at, t.ended_at, t.wake_at, t.tenant,
           1, 2, 0, t.priority, t.status, t.paused_reason, t.error
      from t
     where t.key_id is null or t.key_id in (select k.id from k)
    returning id),
e as (
    insert into workflow_run_events (run_id, at, seq, code, actor, data)
    select r.id, t.at, 1, t.code, t.actor, t.data::json
      from t
      join r on r.id = t.id),
l as (
    insert into run_labels (run_id, tenant, key, value)
    select r.id, t.tenant, x.key, x.value
      from unnest($25::int4[], $26::text[], $27::text[]) as x (ord, key, value)
      join t on t.ord = x.ord
      join r on r.id = t.id)
select (select array_agg(ord::int4) from t) as known, (select array_agg(t.ord::int4) from t join r on r.id = t.id) as written
