"""What an application imports.

`docferry.connect(file)` and `docferry.connect_async(file)` make a `DualWriteManager`, as the environment says where the
databases are. `DynamoDBClient` offers the file's access patterns by name.
"""

from docferry.client.api.dynamodb import AsyncDynamoDBClient, DynamoDBClient
from docferry.client.api.manager import AsyncDualWriteManager, DualWriteManager
from docferry.client.reads.named import Ended, Page, ScanPage
from docferry.client.writes.named import Delete, Put, Update

__all__ = [
    "AsyncDualWriteManager",
    "AsyncDynamoDBClient",
    "Delete",
    "DualWriteManager",
    "DynamoDBClient",
    "Ended",
    "Page",
    "Put",
    "ScanPage",
    "Update",
]
