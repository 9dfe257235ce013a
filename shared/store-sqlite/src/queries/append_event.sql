-- Parameters by number, for speed: this is written several times per tick.
insert into workflow_run_events (run_id, seq, at, code, node, item, attempt, epoch, actor, data)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
