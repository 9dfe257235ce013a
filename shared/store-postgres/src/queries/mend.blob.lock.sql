-- Whoever keeps content from here on waits; whoever has begun to is waited for. A run that refers to content which was
-- there before keeps it as well, and so cannot slip through.
lock table blobs in share row exclusive mode
