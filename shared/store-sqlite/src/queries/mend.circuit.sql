update circuits set probe_at = :now where tenant = :tenant and kind = :kind and name = :name and probe_at > :beyond
