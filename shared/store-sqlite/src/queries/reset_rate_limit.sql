delete from rate_limits where tenant = :tenant and kind = :kind and name = :name
