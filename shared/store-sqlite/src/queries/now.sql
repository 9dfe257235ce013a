select 1 from tenants
