-- One whose turns have all come is as one that has no row.
delete from rate_limits
 where (tenant, kind, name) in (select tenant, kind, name from rate_limits where taken_until < :before limit :limit)
