-- Folds that are ahead of their log.
select s.run_id, s.seq, r.next_seq
  from run_snapshots s
  join workflow_runs r on r.id = s.run_id
 where s.seq >= r.next_seq
 limit $1
