-- Each status walks the index on its own, so that nothing is read beyond the limit.
select count(*) from (
    select
      from unnest(array['queued', 'running', 'waiting', 'paused', 'canceling', 'compensating']) s (status)
     cross join lateral (
        select
          from workflow_runs r
         where r.tenant = $1 and r.status = s.status
         order by r.id
         limit $2) r
     limit $2) open
