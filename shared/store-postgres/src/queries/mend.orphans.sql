-- Rows around a run that does not exist.
with gone as (
    select $1::uuid as run_id where not exists (select from workflow_runs r where r.id = $1)),
l as (delete from run_labels x using gone where x.run_id = gone.run_id),
s as (delete from run_snapshots x using gone where x.run_id = gone.run_id),
a as (delete from approvals x using gone where x.run_id = gone.run_id),
o as (delete from outbox x using gone where x.run_id = gone.run_id)
select count(*) from gone
