"""Every bound of time on which a flow decides, with the reason of each."""

from __future__ import annotations

SIGNATURE_LIVES_S = 15 * 60.0
"""A request that was signed before its sender lost its lease, or fell silent, may still be accepted for so long (AWS Signature
Version 4)."""
