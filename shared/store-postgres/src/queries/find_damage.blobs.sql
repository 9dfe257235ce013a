select tenant, digest from blobs
