"""Users, by pymongo."""

import re
from datetime import datetime

from .db import client, coll, db, users as people

STATES = ["active", "invited"]


def by_name(username):
    return people.find_one({"username": username})  # P01


def by_email(email, *, brief=False):
    return db["users"].find_one({"email": email}, {"email": 1, "status": 1})  # P02


def by_id(user_id):
    return db.users.find_one({"_id": user_id})  # P03


def active_in(city):
    return list(
        db.users.find({"profile.location.city": city, "status": "active"})  # P04
        .sort("lastLoginAt", pymongo.DESCENDING)
        .limit(20)
    )


def in_city(city, status):
    return list(db.users.find({"profile.location.city": city, "status": status}))  # P05


def newest(since):
    query = {"createdAt": {"$gte": since}}
    cursor = people.find(query)  # P06
    cursor.sort([("createdAt", -1)])
    return cursor.to_list()


def search(text):
    return [one["username"] for one in people.find({"username": re.compile("^" + text)})]  # P07


def register(username, email):
    return people.insert_one({"username": username, "email": email, "createdAt": datetime.utcnow()}).inserted_id  # P08


def invite(email):
    people.insert_one({"email": email, "status": "invited"})  # P09


def visit(username):
    people.update_one({"username": username}, {"$inc": {"visits": 1}, "$set": {"lastLoginAt": datetime.utcnow()}})  # P10


def rename(email, changes):
    return people.find_one_and_update({"email": email}, {"$set": changes}, return_document=True)  # P11


def move(username, city):
    people.update_one(  # P12
        {"username": username, "addresses.type": "home"},
        {"$set": {"addresses.$.city": city}},
    )


def expire(day):
    people.update_many({"lastLoginAt": {"$lt": day}}, {"$set": {"status": "idle"}})  # P13


def remove(username):
    return people.delete_one({"username": username}).deleted_count  # P14


def list_users(filters, status=None):
    query = {}
    if status:
        query["status"] = status
    query.update(filters)
    return list(people.find(query))  # P15


def several(names):
    return list(people.find({"username": {"$in": names}}))  # P16


def how_many():
    return people.count_documents({"status": {"$in": STATES}}), people.estimated_document_count()  # P17 P18


def cities():
    return people.distinct("profile.location.city")  # P19


def transfer(sender, receiver):
    with client().start_session() as session:  # P20
        with session.start_transaction():
            people.update_one({"username": sender}, {"$inc": {"points": -1}}, session=session)  # P21


def audit(entry):
    coll("audit").insert_one(entry)  # P22


def words(text):
    """No driver's calls: they are of texts, lists and dicts."""
    found = {"count": text.count("a"), "at": text.find("b")}
    found.update(text=text.index("c"))
    names = [one for one in STATES if one.find("a") > 0]
    names.remove("active")
    return found, names.count("x")
