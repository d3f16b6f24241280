"""Connections of the example application."""

import os

import pymongo
from pymongo import MongoClient as Connection

_client = None


def client():
    global _client
    if _client is None:
        _client = Connection(os.environ["MONGODB_URI"])
    return _client


def get_db():
    return client()["myapp"]


def coll(name):
    return get_db()[name]


db = pymongo.MongoClient(os.environ["MONGODB_URI"]).get_database("myapp")
users = db.users
