insert into workflows (tenant, name, revision, latest_version, content_hash, tags, created_at, updated_at)
values (:tenant, :name, :revision, :latest_version, :hash, :tags, :created_at, :updated_at)
