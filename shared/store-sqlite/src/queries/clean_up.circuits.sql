-- One that is closed, and whose window has ended, is as one that has no row.
delete from circuits
 where (tenant, kind, name) in (select tenant, kind, name
                                  from circuits
                                 where state = 'closed' and window_ends_at < :before
                                 limit :limit)
