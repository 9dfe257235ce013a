-- What has been freed so far is looked at now. Before the members are read: a place that is freed meanwhile stays marked.
delete from concurrency_places where tenant = :tenant and name = :name and state = 'freed'
