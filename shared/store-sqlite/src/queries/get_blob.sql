select content from blobs where tenant = :tenant and digest = :digest
