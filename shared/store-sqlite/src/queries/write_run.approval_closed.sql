-- Closes open gates of a run: of one attempt, of one node, or all of them.
update approvals
   set decided_at = :now, decision = :decision, decided_by = :by
 where run_id = :run_id and decided_at is null
   and (:node is null or node = :node) and (:attempt is null or attempt = :attempt)
