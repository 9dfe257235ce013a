-- The same content is stored once.
insert or ignore into blobs (tenant, digest, size, content) values (:tenant, :digest, length(:content), :content)
