-- One whose turns have all come is as one that has no row. Whoever takes a turn meanwhile holds its row, and writes it anew if
-- it is gone.
delete from rate_limits
 where (tenant, kind, name) in (select tenant, kind, name
                                  from rate_limits
                                 where taken_until < clock_timestamp() - $1
                                 limit $2
                                   for update skip locked)
