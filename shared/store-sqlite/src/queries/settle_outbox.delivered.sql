delete from outbox where id = :id
