"""What happens in a run, a step at a time: each is a method of its world."""

STEPS = {
    "write": 18,
    "transact": 6,
    "dual_write": 10,
    "conditional_load": 4,
    "repair_documents": 3,
    "bury_items": 3,
    "replay_letters": 2,
    "kill": 2,
    "read_stream": 12,
    "save_position": 4,
    "replace_replicator": 4,
    "read": 4,
    "open_gate": 40,
}
"""What may happen next, and how often."""
