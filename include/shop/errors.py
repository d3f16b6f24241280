"""What the shop itself raises. What a database raises goes through as it is: pymongo's errors in every mode."""

from __future__ import annotations


class ShopError(Exception):
    """Base of the shop's own errors."""


class NoSuchUser(ShopError):
    """No user has this name. Nothing was written."""


class NoSuchOrder(ShopError):
    """No order has this id. Nothing was written."""


class NeedsDynamoDB(ShopError):
    """This operation needs a DynamoDBClient, and the shop was made without one."""


class OtherDatabase(ShopError):
    """This token is of a list that began in the other database. Begin the list again."""
