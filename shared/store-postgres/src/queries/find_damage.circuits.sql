-- Circuits that no call may try for longer than any definition can ask for.
select tenant, kind, name from circuits where probe_at > clock_timestamp() + $2 limit $1
