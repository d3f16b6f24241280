"""The throw-away stack: a real MongoDB replica set, an AWS emulator, and a shop's data in it.

`EmbeddedStack` starts it all; `load_shop` fills it. For `make demo`, `docferry up` and tests, never for production.
"""

from docferry.embedded.aws import EmbeddedAws
from docferry.embedded.mongo import EmbeddedReplicaSet
from docferry.embedded.shop import CollectionCounts, ShopCounts, load_shop, shop_documents
from docferry.embedded.stack import EmbeddedStack, KeptStack, read_stack

__all__ = [
    "CollectionCounts",
    "EmbeddedAws",
    "EmbeddedReplicaSet",
    "EmbeddedStack",
    "KeptStack",
    "ShopCounts",
    "load_shop",
    "read_stack",
    "shop_documents",
]
