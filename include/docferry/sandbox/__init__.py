"""The throw-away stack: a real MongoDB replica set and an AWS emulator in one directory.

`SandboxStack` starts it all; `docferry.rehearsal.shop.load_shop` fills it. For `make demo`, `docferry up` and tests,
never for production.
"""

from docferry.sandbox.aws import SandboxAws
from docferry.sandbox.mongo import SandboxReplicaSet
from docferry.sandbox.stack import KeptStack, SandboxStack, read_stack

__all__ = ["KeptStack", "SandboxAws", "SandboxReplicaSet", "SandboxStack", "read_stack"]
