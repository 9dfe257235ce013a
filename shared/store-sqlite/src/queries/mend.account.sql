insert into repairs (at, actor, kind, subject, detail) values (:now, :actor, :kind, :subject, :detail)
