select count(*) from circuits where state <> 'closed'
