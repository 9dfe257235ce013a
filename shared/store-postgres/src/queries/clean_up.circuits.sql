-- One that is closed, and whose window has ended, is as one that has no row. Whoever steps it meanwhile holds its row, and
-- writes it anew if it is gone.
delete from circuits
 where (tenant, kind, name) in (select tenant, kind, name
                                  from circuits
                                 where state = 'closed' and window_ends_at < clock_timestamp() - $1
                                 limit $2
                                   for update skip locked)
