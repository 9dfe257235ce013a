-- The first tables: definitions, runs with their logs, and what the scheduler and the door need around them.
-- Times are microseconds since 1970, ids of runs and sessions the 16 bytes of a UUID.

create table tenants (
    id   integer primary key,
    name text not null unique
) strict;

insert into tenants (id, name) values (1, 'default');

-- ---- definitions ---------------------------------------------------------------------------------

create table workflows (
    id             integer primary key,
    tenant         integer not null references tenants (id),
    name           text    not null,
    revision       integer not null,
    latest_version integer not null,
    content_hash   text    not null,
    tags           text    not null check (json_type(tags) = 'array'),
    created_at     integer not null,
    updated_at     integer not null,
    hidden_at      integer,
    unique (tenant, name)
) strict;

-- A definition that came inline with a run belongs to no workflow and has no number.
create table workflow_versions (
    id           integer primary key,
    tenant       integer not null references tenants (id),
    workflow_id  integer references workflows (id),
    name         text    not null,
    version      integer,
    content_hash text    not null,
    spec         text    not null,
    created_at   integer not null,
    check ((workflow_id is null) = (version is null))
) strict;

create unique index workflow_versions_by_number on workflow_versions (workflow_id, version)
    where workflow_id is not null;
create unique index workflow_versions_inline on workflow_versions (tenant, content_hash)
    where workflow_id is null;

-- Tools and agents by name. A definition brings along those that it calls, so that nothing of a run points here.
create table callees (
    tenant       integer not null references tenants (id),
    kind         text    not null check (kind = 'tool' or kind = 'agent'),
    name         text    not null,
    revision     integer not null,
    content_hash text    not null,
    spec         text    not null,
    risk         text,
    created_at   integer not null,
    updated_at   integer not null,
    deleted_at   integer,
    primary key (tenant, kind, name)
) strict, without rowid;

-- Circuit breakers, for calls of tools, agents and hosts. One that nothing went wrong with has no row.
create table circuits (
    tenant         integer not null references tenants (id),
    kind           text not null check (kind = 'tool' or kind = 'agent' or kind = 'host'),
    name           text not null,
    state          text not null check (state = 'closed' or state = 'open' or state = 'half_open'),
    failures       integer not null,
    window_ends_at integer not null,
    probe_at       integer check ((probe_at is null) = (state = 'closed')),
    since          integer not null,
    primary key (tenant, kind, name)
) strict, without rowid;

-- Rate limits, for calls of tools and agents and for runs of workflows. One that no turn was taken of has no row.
create table rate_limits (
    tenant      integer not null references tenants (id),
    kind        text not null check (kind = 'tool' or kind = 'agent' or kind = 'workflow'),
    name        text not null,
    -- Until then all turns are given away.
    taken_until integer not null,
    -- The limit, as whoever took the last turn has it.
    turns       integer not null check (turns > 0),
    per_ms      integer not null check (per_ms > 0),
    burst       integer not null check (burst > 0),
    rejects     integer not null,
    primary key (tenant, kind, name)
) strict, without rowid;

-- ---- runs ----------------------------------------------------------------------------------------

-- What lists and the scheduler need of a run; everything else is in its log. Workflow and number are
-- copied from the definition, which never changes, so that no list has to join.
--
-- Version, next_seq and last_activity_at change with every tick: no index may hold them. Conditions that are
-- checked at every write are spelled with `or` and `between`: for `in (…)` SQLite builds a table each time.
create table workflow_runs (
    id               blob    primary key check (length(id) = 16),
    tenant           integer not null,
    version_id       integer not null references workflow_versions (id),
    workflow         text    not null,
    workflow_version integer,
    status           text    not null check (status = 'queued' or status = 'running' or status = 'waiting'
                                             or status = 'paused' or status = 'canceling' or status = 'compensating'
                                             or status = 'completed' or status = 'failed' or status = 'canceled'),
    paused_reason    text    check ((paused_reason is null) = (status <> 'paused')),
    version          integer not null,
    next_seq         integer not null,
    epoch            integer not null,
    -- The run whose step started this one, and whether it has taken in how this one ended.
    parent_id        blob    check (length(parent_id) = 16),
    parent_told      integer not null default 0 check (parent_told = 0 or parent_id is not null and ended_at is not null),
    priority         integer not null,
    lease_owner      blob    check (lease_owner is null
                                    or status <> 'completed' and status <> 'failed' and status <> 'canceled'),
    -- The door has written since the engine that holds the run last did.
    attention        integer not null default 0 check (attention = 0 or lease_owner is not null),
    wake_at          integer,
    last_activity_at integer not null,
    created_at       integer not null,
    started_at       integer,
    ended_at         integer,
    error            text
) strict, without rowid;

-- Lists: newest first, by status, by workflow.
create index workflow_runs_by_tenant on workflow_runs (tenant, id);
create index workflow_runs_by_status on workflow_runs (tenant, status, id);
create index workflow_runs_by_workflow on workflow_runs (tenant, workflow, id);
-- The sweep: runs that wait for an engine (all that it asks of them is in the index, because it reads them all),
-- runs that wait for a time, runs that are held, children whose parent does not know yet that they have ended.
create index workflow_runs_claimable on workflow_runs (tenant, priority, id, status, lease_owner)
    where lease_owner is null and (status = 'queued' or status = 'running');
create index workflow_runs_by_wake_at on workflow_runs (wake_at)
    where wake_at is not null and lease_owner is null
          and (status = 'waiting' or status = 'paused' or status = 'canceling' or status = 'compensating');
create index workflow_runs_held on workflow_runs (lease_owner) where lease_owner is not null;
create index workflow_runs_moved on workflow_runs (lease_owner) where attention = 1;
create index workflow_runs_untold on workflow_runs (parent_id, id)
    where parent_id is not null and parent_told = 0 and ended_at is not null;
create index workflow_runs_by_parent on workflow_runs (parent_id, id) where parent_id is not null;

create trigger workflow_runs_stay_ended before update of status on workflow_runs
    when new.status <> old.status
         and (old.status = 'completed' or old.status = 'failed' or old.status = 'canceled')
begin
    select raise(abort, 'a run that has ended stays ended');
end;

create table run_labels (
    run_id blob    not null,
    tenant integer not null,
    key    text    not null,
    value  text    not null,
    primary key (run_id, key)
) strict, without rowid;

create index run_labels_by_value on run_labels (tenant, key, value, run_id);

-- A run's row with its labels, as it is read everywhere.
create view run_rows as
select id, tenant, version_id, workflow, workflow_version, status, paused_reason, version, next_seq, wake_at,
       last_activity_at, lease_owner, epoch, priority, created_at, started_at, ended_at, error, parent_id,
       (select json_group_object(l.key, l.value) from run_labels l where l.run_id = r.id) as labels
  from workflow_runs r;

-- ---- the log -------------------------------------------------------------------------------------

-- The tenant stands on the run. There is no foreign key either: events are only written after the
-- guarded update of their run has found its row, and `windlass doctor` looks for orphans.
-- A table with row ids writes 200-byte events a third faster than one without.
create table workflow_run_events (
    run_id  blob    not null,
    seq     integer not null check (seq > 0),
    at      integer not null,
    code    integer not null,
    node    integer,
    -- -1 stands for none: in a unique index every null is different from every other.
    item    integer not null default -1,
    attempt integer,
    epoch   integer,
    actor   text,
    data    text    not null,
    primary key (run_id, seq)
) strict;

-- run.canceled, run.completed, run.failed: a run ends once.
create unique index workflow_run_events_end on workflow_run_events (run_id) where code between 6 and 8;
-- step.succeeded … step.lost: an attempt has one outcome.
create unique index workflow_run_events_outcome on workflow_run_events (run_id, node, item, attempt)
    where code between 21 and 26 and attempt is not null;

create trigger workflow_run_events_never_change before update on workflow_run_events
begin
    select raise(abort, 'what has happened does not change');
end;

create trigger workflow_run_events_never_leave before delete on workflow_run_events
begin
    select raise(abort, 'what has happened is not forgotten');
end;

-- The newest fold of a long run, so that reading it need not begin at its first event.
create table run_snapshots (
    run_id blob    primary key,
    seq    integer not null,
    format integer not null,
    state  text    not null
) strict;

-- ---- around the runs -----------------------------------------------------------------------------

-- The inbox: gates that were requested, open and decided.
create table approvals (
    run_id       blob    not null,
    seq          integer not null,
    tenant       integer not null,
    workflow     text    not null,
    node         text    not null,
    attempt      integer not null,
    requested_at integer not null,
    expires_at   integer,
    decided_at   integer,
    decision     text check (decision in ('granted', 'rejected', 'expired', 'withdrawn')),
    decided_by   text,
    primary key (run_id, seq),
    check ((decided_at is null) = (decision is null))
) strict, without rowid;

create index approvals_by_time on approvals (tenant, requested_at, run_id, seq);
create index approvals_open on approvals (tenant, requested_at, run_id, seq) where decided_at is null;

-- What starts by itself, and when. Of many who notice that a time has come, the one writes it whose run still finds
-- `next_at` as it was.
create table schedules (
    tenant       integer not null,
    name         text    not null,
    revision     integer not null,
    spec         text    not null,
    is_paused    integer not null check (is_paused in (0, 1)),
    next_at      integer,
    last_at      integer,
    last_run_id  blob,
    last_problem text,
    created_at   integer not null,
    updated_at   integer not null,
    deleted_at   integer,
    primary key (tenant, name)
) strict, without rowid;

create index schedules_due on schedules (next_at) where next_at is not null and deleted_at is null;

-- Runs that have a place in a concurrency group, or wait for one. A run that has ended stays, as `freed`, until somebody
-- has looked whose turn it is: so the group is found whoever dies.
create table concurrency_places (
    run_id      blob    primary key,
    tenant      integer not null,
    name        text    not null,
    places      integer not null,
    on_conflict text    not null check (on_conflict in ('queue', 'reject', 'cancel_running')),
    priority    integer not null,
    state       text    not null check (state in ('held', 'waiting', 'freed'))
) strict, without rowid;

create index concurrency_places_in_turn on concurrency_places (tenant, name, state, priority, run_id);
create index concurrency_places_freed on concurrency_places (tenant, name) where state = 'freed';

-- What must leave the database, written in the transaction that made it true.
create table outbox (
    id         integer primary key autoincrement,
    tenant     integer not null,
    run_id     blob    not null,
    seq        integer not null,
    topic      text    not null,
    body       text    not null,
    created_at integer not null,
    due_at     integer not null,
    attempts   integer not null default 0,
    error      text,
    dead_at    integer
) strict;

create index outbox_due on outbox (due_at, id) where dead_at is null;

create table blobs (
    tenant  integer not null,
    digest  text    not null,
    size    integer not null check (size = length(content)),
    content blob    not null,
    primary key (tenant, digest)
) strict;

-- Row ids grow with time, so that forgetting the oldest needs no index of its own.
create table idempotency_keys (
    id         integer primary key,
    tenant     integer not null,
    principal  text    not null,
    route      text    not null,
    key        text    not null,
    request    text    not null,
    status     integer not null,
    body       text    not null,
    location   text,
    created_at integer not null,
    unique (tenant, principal, route, key)
) strict;

-- What `windlass doctor --repair` has done, each in the transaction that did it.
create table repairs (
    id      integer primary key,
    at      integer not null,
    actor   text    not null,
    kind    text    not null,
    subject text    not null,
    detail  text    not null
) strict;
