insert into repairs (at, actor, kind, subject, detail) values (clock_timestamp(), $1, $2, $3, $4)
