//! The store port on PostgreSQL: many processes, one database.
