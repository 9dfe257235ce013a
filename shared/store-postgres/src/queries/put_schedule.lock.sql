-- SQLite needs no such statement: it has one writer. A time of this schedule that is about to come has come, or waits.
select from schedules where tenant = $1 and name = $2 for update
