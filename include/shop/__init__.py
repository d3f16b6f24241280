"""The example application: a shop, whose every operation is written once and works before, during and after the migration.

    from shop import Shop
    shop = Shop(db := docferry.connect("include/migrations/shop.yaml"), DynamoDBClient(db))
    shop.get_user_orders(ann["_id"], limit=20)

It is no part of the `docferry` package: it shows how an application uses it. Put `include/` on the path to run it.
"""

from shop.errors import NeedsDynamoDB, NoSuchOrder, NoSuchUser, OtherDatabase, ShopError
from shop.shop import Shop

__all__ = ["NeedsDynamoDB", "NoSuchOrder", "NoSuchUser", "OtherDatabase", "Shop", "ShopError"]
