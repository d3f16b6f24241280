"""Backfill: every document of a collection, read once at a named snapshot, written, superseded or dead-lettered.

Order of things, and why:

1. `plan.plan_backfill` reads only: how many documents, write units, hours, and how far the oplog reaches back.
2. `chunks.prepare` records the stream position, once, before any page is read; then cuts the `_id` space into chunks.
3. `load.load_range` leases chunks one after the other and loads them page by page. A page is one `find` of one batch at
   a snapshot not before the stream position; that time is the version of everything in it. After a page's items are
   acknowledged and its dead letters are in the ledger, the chunk's checkpoint may move past it. So a killed process
   loses nothing: its pages are read again, and each document is counted once.
4. `finish.finish` adds up the chunks. `read = written + superseded + dead-lettered + outside`, or the run has failed.

The bulk mode writes without conditions, and the ledger allows it only while the collection has no other writer: once
replication has begun, every load is conditional (a put wins only where nothing newer is stored).
A collection that has been loaded stays loaded: a second run says so and changes nothing.
"""
