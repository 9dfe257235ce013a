insert into rate_limits (tenant, kind, name, taken_until, turns, per_ms, burst, rejects)
values (:tenant, :kind, :name, :taken_until, :turns, :per_ms, :burst, :rejects)
    on conflict (tenant, kind, name) do update
   set taken_until = excluded.taken_until, turns = excluded.turns, per_ms = excluded.per_ms, burst = excluded.burst,
       rejects = excluded.rejects
