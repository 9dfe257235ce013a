-- Closes open gates of a run: of one attempt, of one node, or all of them.
update approvals
   set decided_at = clock_timestamp(), decision = $2, decided_by = $3
 where run_id = $1 and decided_at is null
   and ($4::text is null or node = $4) and ($5::int4 is null or attempt = $5)
