"""What an application imports.

`docferry.connect(file)` and `docferry.connect_async(file)` make a `DualWriteManager`, as the environment says where the
databases are. `DynamoDBClient` offers the file's access patterns by name.
"""

from docferry.client.manager import AsyncDualWriteManager, DualWriteManager

__all__ = ["AsyncDualWriteManager", "DualWriteManager"]
