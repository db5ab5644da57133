"""PostgreSQL as a place where tables are delivered."""
