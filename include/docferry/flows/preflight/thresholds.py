"""Every bound of lag and age on which a flow decides, in seconds, with the reason of each."""

from __future__ import annotations

SIGNATURE_LIVES_S = 15 * 60.0
"""A request that was signed before its sender lost its lease, or fell silent, may still be accepted for so long (AWS Signature
Version 4)."""
LATE_LIFT_S = 15 * 60.0
"""A process that stood still just before it sent a lift of the fence, and is not proved dead, may wake: for so long DynamoDB is
not made the leader behind its back. (A later one is taken back: the process that replicates looks every second.)"""

# --- lag -------------------------------------------------------------------------------------------------------------

HOLD_LAG_S = 2.0
"""Of replication when writes begin to wait for DynamoDB as the leader: they wait for about as long, and HOLD is bounded."""
RETURN_LAG_S = 5.0
"""The same on the way back. A DynamoDB stream shows a write later than a change stream does, and has no watermark."""
HEALTHY_LAG_S = 30.0
"""Replication that is further behind is not healthy: a change of leader would have to wait for as long."""
FLIP_LAG_S = 60.0
"""Reads may be flipped while replication is this far behind: dual writes keep DynamoDB fresh beside it."""
JUDGING_BEHIND_S = 180.0
"""How long a validation waits for replication, and for documents that are written at every look, before it judges them undecided.
MongoDB keeps snapshots of the last five minutes, and the looks are at one."""

# --- age -------------------------------------------------------------------------------------------------------------

SEEN_S = 60.0
"""A replicator notes its position every second; one that has not for so long is not there. It is as long, because between two
runs of the DAG `replicate` none is there for some seconds: a phase does not have to be begun just between two gaps. One that has
ended by an error is not there from then on."""
REPORT_AGE_S = 26 * 3600.0
"""Validation runs each night; a report that is older may be of the night before the last."""
FOLLOWED_WITHIN_S = 15.0
"""An instance that has not followed a change of mode by then has not heard of it, or has a write that does not end."""
COMPARED_WITHIN_S = 15.0
"""So long a flip waits for the first reads that are compared."""
