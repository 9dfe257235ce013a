select content from blobs where tenant = $1 and digest = $2
