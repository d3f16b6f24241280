"""Orders, in a class that keeps its collection; and reports, by motor."""

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase

from shop_api.db import get_db


class Repository:
    name = "orders"

    def __init__(self, database=None):
        self.db = database if database is not None else get_db()
        self.collection = self.db["orders"]

    def get(self, order_id):
        return self.collection.find_one({"_id": order_id})  # P23

    def of_user(self, user_id, limit=20):
        orders = self.collection
        return list(orders.find({"userId": user_id}, sort=[("createdAt", -1)], limit=limit))  # P24

    def of_status(self, status):
        for order in self.collection.find({"status": status}).batch_size(500):  # P25
            yield order

    def by_total(self, least):
        return list(self.collection.find({"totalAmount": {"$gt": least}}).sort("totalAmount"))  # P26

    def replace(self, order):
        self.collection.replace_one({"_id": order["_id"]}, order, upsert=True)  # P27

    def totals(self):
        return list(self.collection.aggregate([{"$group": {"_id": "$status", "sum": {"$sum": "$totalAmount"}}}]))  # P28

    def load(self, orders):
        self.collection.insert_many(orders)  # P29

    def drop_old(self, day):
        self.collection.delete_many({"createdAt": {"$lt": day}})  # P30


class Archive:
    def __init__(self, collection):
        self.collection = collection

    def keep(self, document):
        self.collection.insert_one(document)  # P31


async def pending(database: AsyncIOMotorDatabase):
    return await database.orders.count_documents({"status": "pending"})  # P32


async def prices(uri, low):
    motor = AsyncIOMotorClient(uri)
    products = motor.myapp.products
    cheap = await products.find({"price": {"$lt": low}}).to_list(100)  # P33
    return [await products.find_one({"sku": one["sku"]}, collation={"locale": "en"}) for one in cheap]  # P34
