"""What the backfill's tests share: migrations with tables of their own, a process to hurt, a proxy that fails on purpose."""
