-- The first tables: definitions, runs with their logs, and what the scheduler and the door need around them.
-- Text that is compared or sorted is in the collation "C": bytes, the same on every machine, and cheap.

create table tenants (
    id   integer primary key,
    name text collate "C" not null unique
);

insert into tenants (id, name) values (1, 'default');

-- ---- definitions ---------------------------------------------------------------------------------

create table workflows (
    id             bigint      generated always as identity primary key,
    tenant         integer     not null references tenants (id),
    name           text collate "C" not null,
    revision       integer     not null,
    latest_version integer     not null,
    content_hash   text collate "C" not null,
    tags           text[]      not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    hidden_at      timestamptz,
    unique (tenant, name)
);

-- A definition that came inline with a run belongs to no workflow and has no number. Definitions are never
-- changed and never removed.
create table workflow_versions (
    id           bigint      generated always as identity primary key,
    tenant       integer     not null references tenants (id),
    workflow_id  bigint      references workflows (id),
    name         text collate "C" not null,
    version      integer,
    content_hash text collate "C" not null,
    spec         text        not null,
    created_at   timestamptz not null,
    check ((workflow_id is null) = (version is null))
);

create unique index workflow_versions_by_number on workflow_versions (workflow_id, version)
    where workflow_id is not null;
create unique index workflow_versions_inline on workflow_versions (tenant, content_hash)
    where workflow_id is null;
create index workflow_versions_by_name on workflow_versions (tenant, name);

-- Tools and agents by name. A definition brings along those that it calls, so that nothing of a run points here.
create table callees (
    tenant       integer     not null references tenants (id),
    kind         text collate "C" not null check (kind = 'tool' or kind = 'agent'),
    name         text collate "C" not null,
    revision     integer     not null,
    content_hash text collate "C" not null,
    spec         text        not null,
    risk         text collate "C",
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    deleted_at   timestamptz,
    primary key (tenant, kind, name)
);

-- Circuit breakers, for calls of tools, agents and hosts. One that nothing went wrong with has no row.
create table circuits (
    tenant         integer not null references tenants (id),
    kind           text collate "C" not null check (kind = 'tool' or kind = 'agent' or kind = 'host'),
    name           text collate "C" not null,
    state          text collate "C" not null check (state = 'closed' or state = 'open' or state = 'half_open'),
    failures       integer not null,
    window_ends_at timestamptz not null,
    probe_at       timestamptz check ((probe_at is null) = (state = 'closed')),
    since          timestamptz not null,
    primary key (tenant, kind, name)
);

-- Rate limits, for calls of tools and agents and for runs of workflows. One that no turn was taken of has no row.
create table rate_limits (
    tenant      integer not null references tenants (id),
    kind        text collate "C" not null check (kind = 'tool' or kind = 'agent' or kind = 'workflow'),
    name        text collate "C" not null,
    -- Until then all turns are given away.
    taken_until timestamptz not null,
    -- The limit, as whoever took the last turn has it.
    turns       integer not null check (turns > 0),
    per_ms      bigint not null check (per_ms > 0),
    burst       integer not null check (burst > 0),
    rejects     boolean not null,
    primary key (tenant, kind, name)
);

-- ---- runs ----------------------------------------------------------------------------------------

-- What lists and the scheduler need of a run; everything else is in its log. Columns of fixed width come first.
--
-- Version, next_seq and last_activity_at change with every tick: no index may hold them, and each page keeps
-- room, so that a tick writes its new row beside the old one and touches no index.
--
-- No foreign key: a run is only written from the row of its definition, and definitions stay. Checking it again
-- for each run would lock the definition's row from every creating connection at once.
create table workflow_runs (
    id               uuid        primary key,
    lease_owner      uuid,
    -- The run whose step started this one.
    parent_id        uuid,
    version_id       bigint      not null,
    last_activity_at timestamptz not null,
    created_at       timestamptz not null,
    started_at       timestamptz,
    ended_at         timestamptz,
    wake_at          timestamptz,
    tenant           integer     not null,
    version          integer     not null,
    next_seq         integer     not null,
    epoch            integer     not null,
    priority         smallint    not null,
    -- The door has written since the engine that holds the run last did.
    attention        boolean     not null default false,
    -- The parent has taken in how this run ended.
    parent_told      boolean     not null default false,
    status           text collate "C" not null,
    paused_reason    text collate "C",
    error            text,
    check (status in ('queued', 'running', 'waiting', 'paused', 'canceling', 'compensating', 'completed', 'failed',
                      'canceled')),
    check ((paused_reason is null) = (status <> 'paused')),
    check (lease_owner is null or status not in ('completed', 'failed', 'canceled')),
    check (not attention or lease_owner is not null),
    check (not parent_told or parent_id is not null and ended_at is not null)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Lists, newest first: a list over all statuses merges nine walks along the first index.
create index workflow_runs_by_status on workflow_runs (tenant, status, id);
create index workflow_runs_by_definition on workflow_runs (version_id, id);
-- The sweep: runs that wait for an engine, runs that wait for a time, runs that are held, children whose parent does
-- not know yet that they have ended.
create index workflow_runs_claimable on workflow_runs (tenant, priority, id)
    where lease_owner is null and status in ('queued', 'running');
create index workflow_runs_by_wake_at on workflow_runs (wake_at, priority)
    where lease_owner is null and status in ('waiting', 'paused', 'canceling', 'compensating')
          and wake_at is not null;
create index workflow_runs_held on workflow_runs (lease_owner) where lease_owner is not null;
create index workflow_runs_moved on workflow_runs (lease_owner) where attention;
create index workflow_runs_untold on workflow_runs (parent_id, id)
    where parent_id is not null and not parent_told and ended_at is not null;
create index workflow_runs_by_parent on workflow_runs (parent_id, id) where parent_id is not null;

create function refuse_to_change() returns trigger language plpgsql as $$
begin
    raise exception '%', tg_argv[0] using errcode = 'restrict_violation';
end $$;

-- After, not before: a trigger before an update locks every row once more.
create trigger workflow_runs_stay_ended after update of status on workflow_runs
    for each row when (old.status in ('completed', 'failed', 'canceled') and new.status <> old.status)
    execute function refuse_to_change('a run that has ended stays ended');

create table run_labels (
    run_id uuid    not null,
    tenant integer not null,
    key    text collate "C" not null,
    value  text collate "C" not null,
    primary key (run_id, key)
);

create index run_labels_by_value on run_labels (tenant, key, value, run_id);

-- A run's row with its definition's name and its labels, as it is read everywhere.
create view run_rows as
select r.id, r.tenant, r.version_id, v.name as workflow, v.version as workflow_version, r.status, r.paused_reason,
       r.version, r.next_seq, r.wake_at, r.last_activity_at, r.lease_owner, r.epoch, r.priority, r.created_at,
       r.started_at, r.ended_at, r.error, r.parent_id,
       (select json_object_agg(l.key, l.value)::text from run_labels l where l.run_id = r.id) as labels
  from workflow_runs r
  left join workflow_versions v on v.id = r.version_id;

-- ---- the log -------------------------------------------------------------------------------------

-- The tenant stands on the run. There is no foreign key either: events are only written by the statement that
-- changed their run's row, and `windlass doctor` looks for orphans.
--
-- `data` is json, not jsonb: it keeps what was written to the letter, costs less to write, and nobody searches it.
create table workflow_run_events (
    run_id  uuid        not null,
    at      timestamptz not null,
    seq     integer     not null check (seq > 0),
    epoch   integer,
    -- -1 stands for none: in a unique index every null is different from every other.
    item    integer     not null default -1,
    code    smallint    not null,
    node    smallint,
    attempt smallint,
    actor   text,
    data    json        not null,
    primary key (run_id, seq)
) partition by range (run_id);

-- run.canceled, run.completed, run.failed: a run ends once.
create unique index workflow_run_events_end on workflow_run_events (run_id) where code in (6, 7, 8);
-- step.succeeded … step.lost: an attempt has one outcome.
create unique index workflow_run_events_outcome on workflow_run_events (run_id, node, item, attempt)
    where code in (21, 22, 23, 24, 25, 26) and attempt is not null;

create trigger workflow_run_events_never_change before update on workflow_run_events
    for each row execute function refuse_to_change('what has happened does not change');
create trigger workflow_run_events_never_leave before delete on workflow_run_events
    for each row execute function refuse_to_change('what has happened is not forgotten');

-- Where the logs of runs go whose month has no partition: made by a clock that is far off, or not by time at all.
create table workflow_run_events_default partition of workflow_run_events default;

-- The smallest run id that could have been made at `moment`: ids begin with their milliseconds.
create function first_run_id_at(moment timestamptz) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partitions of this month and of the `months` that follow, and says how many were missing. A run's whole
-- log lies in one of them, so retention drops partitions. Months, not days: a statement that finds logs by run opens
-- every partition there is, and sixty of them cost a claim as much again as the claim.
--
-- Attached, not created in place: attaching lets the log be written meanwhile. A month of which the default
-- partition already holds runs stays there.
create function make_event_partitions(months integer) returns integer language plpgsql as $$
declare
    made  integer := 0;
    month timestamp;
    name  text;
    first uuid;
    past  uuid;
begin
    for ahead in 0 .. months loop
        month := date_trunc('month', clock_timestamp() at time zone 'UTC') + ahead * interval '1 month';
        name := 'workflow_run_events_' || to_char(month, 'YYYYMM');
        first := first_run_id_at(month at time zone 'UTC');
        past := first_run_id_at((month + interval '1 month') at time zone 'UTC');
        continue when to_regclass(name) is not null;
        continue when exists (select from workflow_run_events_default e where e.run_id >= first and e.run_id < past);
        execute format('create table %I (like workflow_run_events including defaults including constraints)', name);
        execute format('alter table workflow_run_events attach partition %I for values from (%L) to (%L)',
                       name, first, past);
        made := made + 1;
    end loop;
    return made;
end $$;

select make_event_partitions(2);

-- The newest fold of a long run, so that reading it need not begin at its first event.
create table run_snapshots (
    run_id uuid    primary key,
    seq    integer not null,
    format integer not null,
    state  text    not null
);

-- ---- around the runs -----------------------------------------------------------------------------

-- The inbox: gates that were requested, open and decided.
create table approvals (
    run_id       uuid        not null,
    requested_at timestamptz not null,
    expires_at   timestamptz,
    decided_at   timestamptz,
    seq          integer     not null,
    tenant       integer     not null,
    attempt      integer     not null,
    node         text collate "C" not null,
    decision     text collate "C" check (decision in ('granted', 'rejected', 'expired', 'withdrawn')),
    decided_by   text,
    primary key (run_id, seq),
    check ((decided_at is null) = (decision is null))
);

-- Few gates are requested in the same microsecond: the rest of their order is sorted when they are read, and a parked
-- run is spared two copies of it.
create index approvals_by_time on approvals (tenant, requested_at);
create index approvals_open on approvals (tenant, requested_at) where decided_at is null;

-- What starts by itself, and when. Of many processes that notice that a time has come, the one writes it whose run still
-- finds `next_at` as it was.
create table schedules (
    tenant       integer     not null references tenants (id),
    name         text collate "C" not null,
    revision     integer     not null,
    spec         text        not null,
    is_paused    boolean     not null,
    next_at      timestamptz,
    last_at      timestamptz,
    last_run_id  uuid,
    last_problem text,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    deleted_at   timestamptz,
    primary key (tenant, name)
);

create index schedules_due on schedules (next_at) where next_at is not null and deleted_at is null;

-- Runs that have a place in a concurrency group, or wait for one. A run that has ended stays, as `freed`, until somebody
-- has looked whose turn it is: so the group is found whoever dies.
create table concurrency_places (
    run_id      uuid     primary key,
    tenant      integer  not null,
    places      integer  not null,
    priority    smallint not null,
    name        text collate "C" not null,
    on_conflict text collate "C" not null check (on_conflict in ('queue', 'reject', 'cancel_running')),
    state       text collate "C" not null check (state in ('held', 'waiting', 'freed'))
);

create index concurrency_places_in_turn on concurrency_places (tenant, name, state, priority, run_id);
create index concurrency_places_freed on concurrency_places (tenant, name) where state = 'freed';

-- What must leave the database, written in the transaction that made it true.
create table outbox (
    id         bigint      generated always as identity primary key,
    run_id     uuid        not null,
    created_at timestamptz not null,
    due_at     timestamptz not null,
    dead_at    timestamptz,
    tenant     integer     not null,
    seq        integer     not null,
    attempts   integer     not null default 0,
    topic      text        not null,
    body       json        not null,
    error      text
);

create index outbox_due on outbox (due_at, id) where dead_at is null;

-- A process holds the advisory lock `liveness` for as long as it lives, and its connection stands.
create table worker_sessions (
    id         uuid        primary key,
    started_at timestamptz not null,
    renewed_at timestamptz not null,
    expires_at timestamptz not null,
    liveness   bigint
);

create table blobs (
    tenant  integer not null,
    digest  text collate "C" not null,
    size    integer not null check (size = length(content)),
    content bytea   not null,
    primary key (tenant, digest)
);

-- Content is made of text that compresses, but compressing it would cost more than it saves on the way in.
alter table blobs alter column content set storage external;

-- The id is a digest of tenant, principal, route and key: short, of one width, and known before the insert.
create table idempotency_keys (
    id         uuid        primary key,
    created_at timestamptz not null,
    tenant     integer     not null,
    status     integer     not null,
    principal  text        not null,
    route      text        not null,
    key        text        not null,
    request    text        not null,
    location   text,
    body       json        not null
);

create index idempotency_keys_by_age on idempotency_keys (created_at);

-- What `windlass doctor --repair` has done, each in the transaction that did it.
create table repairs (
    id      bigint      generated always as identity primary key,
    at      timestamptz not null,
    actor   text        not null,
    kind    text        not null,
    subject text        not null,
    detail  text        not null
);

-- ---- search --------------------------------------------------------------------------------------

-- Upper and lower case of every language, where the server knows them; else those of the database's locale.
do $$
declare
    folding text := case when exists (select from pg_collation where collname = 'und-x-icu')
                         then 'collate "und-x-icu"' else '' end;
begin
    execute format('create function contains_ignoring_case(whole text, part text) returns boolean '
                   'language sql immutable parallel safe return strpos(lower(whole %1$s), lower(part %1$s)) > 0',
                   folding);
end $$;
