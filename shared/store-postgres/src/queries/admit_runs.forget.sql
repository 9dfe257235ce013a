-- What has been freed so far is looked at now. Before the members are read: a place that is freed meanwhile stays marked.
delete from concurrency_places where tenant = $1 and name = $2 and state = 'freed'
