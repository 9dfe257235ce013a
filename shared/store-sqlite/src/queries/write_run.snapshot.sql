-- Only the newest fold is kept.
insert or replace into run_snapshots (run_id, seq, format, state) values (:run_id, :seq, :format, :state)
