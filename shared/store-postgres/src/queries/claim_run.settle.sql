-- SQLite needs no such statement: there an answer cannot be lost on its way. The run and its history, if this session
-- holds it and has done nothing under this epoch but take it.
select r.*, s.seq as snapshot_seq, s.format as snapshot_format, s.state as snapshot_state, h.*
  from run_rows r
  left join run_snapshots s on s.run_id = r.id and s.format = $3
  left join lateral (
      select array_agg(e.seq) as seqs, array_agg(e.at) as ats, array_agg(e.code) as codes, array_agg(e.node) as nodes,
             array_agg(e.item) as items, array_agg(e.attempt) as attempts, array_agg(e.epoch) as epochs,
             array_agg(e.actor) as actors, array_agg(e.data::text) as datas
        from (select *
                from workflow_run_events e
               where e.run_id = r.id and e.run_id = $1 and e.seq > coalesce(s.seq, 0)
               order by e.seq) e) h on true
 where r.id = $1 and r.lease_owner = $2
   and not exists (select from workflow_run_events e where e.run_id = $1 and e.epoch = r.epoch and e.code <> 2)
