-- Newest first.
select at, actor, kind, subject, detail from repairs order by id desc limit $1
