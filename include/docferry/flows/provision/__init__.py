"""Provision: plan -> diff -> apply -> read back. And replicas, a step of its own after the load.

One step at a time: after each, AWS is asked until it says what was wanted, and the rest is planned anew from what it
says. So a run that was killed anywhere is continued by the next one, and a request whose answer was lost is never
sent twice blindly.
"""
