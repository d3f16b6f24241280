"""Databases that look like public sample data: a bank, a movie site, training data. The same for the same seed."""

from __future__ import annotations

import datetime as dt
from random import Random
from typing import Any

from bson import ObjectId
from pymongo.database import Database

Document = dict[str, Any]
DAY = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)


def make_bank(database: Database[Document], accounts: int = 300) -> None:
    """Accounts of which two share a number, customers with names that are data, buckets of up to 100 transactions."""
    random = Random("bank")
    products = ("Derivatives", "InvestmentStock", "CurrencyService", "Commodity")
    made = [
        {
            "_id": ObjectId(),
            "account_id": 371_138 + number,
            "limit": random.choice([9_000, 10_000]),
            "products": random.sample(products, 2),
        }
        for number in range(accounts)
    ]
    made[5]["account_id"] = made[6]["account_id"]
    database["accounts"].insert_many(made)
    database["customers"].insert_many(
        {
            "_id": ObjectId(),
            "username": f"user{number}",
            "birthdate": DAY - dt.timedelta(days=number),
            "accounts": [one["account_id"] for one in random.sample(made, random.randint(1, 6))],
            "tier_and_details": {f"{random.getrandbits(128):032x}": {"tier": "Gold", "active": True} for _ in range(2)},
        }
        for number in range(accounts)
    )
    database["transactions"].insert_many(
        {
            "_id": ObjectId(),
            "account_id": one["account_id"],
            "bucket_start_date": DAY,
            "transactions": [
                {"date": DAY, "amount": number * 3, "symbol": "amzn", "price": str(random.random() * 100)}
                for number in range(random.choice([3, 40, 100]))
            ],
        }
        for one in made
    )
    database["transactions"].create_index("account_id")


def make_movies(database: Database[Document], movies: int = 400) -> None:
    """Years as texts, ratings that are empty, one movie with half of the comments, a text and a geo index."""
    random = Random("movies")
    made = [
        {
            "_id": ObjectId(),
            "title": f"Movie {number}",
            "year": random.choice([1990 + number % 30, 1990 + number % 30, f"{1990 + number % 30}è"]),
            "imdb": {"rating": random.choice([6.1, 7, "", 8.25]), "votes": random.randint(0, 10_000)},
            "cast": [f"P{random.randint(0, 90)}" for _ in range(4)],
            "released": DAY - dt.timedelta(days=number),
        }
        for number in range(movies)
    ]
    database["movies"].insert_many(made)
    database["movies"].create_index([("title", "text")])
    database["movies"].create_index("year")
    database["comments"].insert_many(
        {
            "_id": ObjectId(),
            "email": f"n{number % 60}@got.es",
            "movie_id": made[0]["_id"] if number % 2 else random.choice(made)["_id"],
            "text": "t" * random.randint(5, 300),
            "date": DAY + dt.timedelta(hours=number),
        }
        for number in range(3 * movies)
    )
    database["comments"].create_index([("movie_id", 1), ("date", -1)])
    database["users"].insert_many({"_id": ObjectId(), "email": f"n{n}@got.es", "name": f"N{n}"} for n in range(60))
    database["users"].create_index("email", unique=True)
    database["theaters"].insert_many(
        {
            "_id": ObjectId(),
            "theaterId": 1_000 + number,
            "location": {
                "address": {"city": f"C{number % 20}", "zipcode": f"{55_425 + number}"},
                "geo": {"type": "Point", "coordinates": [-93.2 - number / 1_000, 44.8]},
            },
        }
        for number in range(100)
    )
    database["theaters"].create_index([("location.geo", "2dsphere")])


def make_training(database: Database[Document], documents: int = 400) -> None:
    """Identifiers as doubles, one field with numbers and texts, names with spaces, four scores a document."""
    random = Random("training")
    kinds = ("exam", "quiz", "homework", "homework")
    database["grades"].insert_many(
        {
            "_id": ObjectId(),
            "student_id": float(number // 3),
            "class_id": float(random.randint(0, 50)),
            "scores": [{"type": kind, "score": random.random() * 100} for kind in kinds],
        }
        for number in range(documents)
    )
    database["inspections"].insert_many(
        {
            "_id": ObjectId(),
            "id": f"{number}-2015-ENFO",
            "certificate_number": random.choice([9_278_806 + number, str(9_278_806 + number)]),
            "date": "Feb 20 2015",
            "address": {"city": "RIDGEWOOD", "zip": random.choice([11_385, ""])},
        }
        for number in range(documents)
    )
    database["inspections"].create_index("certificate_number")
    database["trips"].insert_many(
        {
            "_id": ObjectId(),
            "tripduration": random.randint(60, 5_000),
            "start station id": random.randint(70, 600),
            "birth year": random.choice([1980, 1981, ""]),
            "start time": DAY + dt.timedelta(minutes=number),
        }
        for number in range(documents)
    )
