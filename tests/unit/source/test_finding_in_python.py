"""Driver calls in Python: by whichever name the collection goes."""

from __future__ import annotations

import pytest
from docferry.core.source.calls import SOME
from support.source.calls import calls_in, found_in

ONE = ["users.find_one(email)"]
WAYS = {
    "a chain from the client": "from pymongo import MongoClient\nMongoClient().app.users.find_one({'email': x})",
    "a module's name": "import pymongo as pm\nclient = pm.MongoClient()\nclient['app']['users'].find_one({'email': x})",
    "an alias of a collection": """
        from pymongo import MongoClient as Connection
        db = Connection().get_database('app')
        def f():
            people = db.get_collection('users')
            them = people
            return them.find_one({'email': x})
    """,
    "an attribute of the object": """
        class Users:
            def __init__(self, database):
                self.db = database
                self.collection = self.db['users']
            def find(self, x):
                return self.collection.find_one({'email': x})
    """,
    "an attribute that a base class has": """
        from pymongo import MongoClient
        class Base:
            collection = None
            def connect(self):
                self.collection = MongoClient().app.users
        class Users(Base):
            def find(self, x):
                return self.collection.find_one({'email': x})
    """,
    "what a function returns": """
        from pymongo import MongoClient
        def coll(name):
            return MongoClient()['app'][name]
        def f(x):
            return coll('users').find_one({'email': x})
    """,
    "taken apart": """
        from pymongo import MongoClient
        db = MongoClient().app
        users, orders = db.users, db.orders
        def f(x):
            return users.find_one({'email': x})
    """,
    "a connection that is made later": """
        from motor.motor_asyncio import AsyncIOMotorClient
        db = None
        async def connect():
            global db
            db = AsyncIOMotorClient().app
        async def f(x):
            return await db.users.find_one({'email': x})
    """,
    "an annotated parameter": """
        from pymongo.database import Database
        def f(store: Database, x):
            return store.users.find_one({'email': x})
    """,
    "docferry's own client": """
        import docferry
        with docferry.connect('shop.yaml') as store:
            store.users.find_one({'email': x})
    """,
    "a with": """
        import pymongo
        def f(x):
            with pymongo.MongoClient() as client:
                return client.app.users.find_one({'email': x})
    """,
    "a filter that is kept in a name": """
        def f(db, x):
            query = {}
            query['email'] = x
            return db.users.find_one(query)
    """,
    "a filter by its keyword": "def f(db, x):\n    return db.users.find_one(filter={'email': x})",
    "what a parameter is by default": """
        from fastapi import Depends
        from pymongo import MongoClient
        def get_users():
            return MongoClient().app.users
        def f(x, people=Depends(get_users)):
            return people.find_one({'email': x})
    """,
    "a test of a condition": "def f(db, x):\n    return 1 if db.users.find_one({'email': x}) else 2",
    "a property": """
        from functools import cached_property
        class Users:
            def __init__(self, client):
                self.db = client.app
            @cached_property
            def people(self):
                return self.db.users
            def find(self, x):
                return self.people.find_one({'email': x})
    """,
    "a method that is handed on": "async def f(db, x):\n    return await asyncio.to_thread(db.users.find_one, {'email': x})",
    "a method in a name": "def f(db, x):\n    find = db.users.find_one\n    return find({'email': x})",
    "a dict that is made by its name": "def f(db, x):\n    return db.users.find_one(dict(email=x))",
    "a constant": "MAIL = 'email'\ndef f(db, x):\n    return db.users.find_one({MAIL: x})",
    "a table of collections": "def f(db, x):\n    all = {'u': db.users}\n    return all['u'].find_one({'email': x})",
    "a lambda in a thread": "def f(db, x):\n    return run(lambda: db.users.find_one({'email': x}))",
    "an assignment in an expression": "def f(db, x):\n    if (one := db.users.find_one({'email': x})):\n        return one",
}


@pytest.mark.parametrize("way", WAYS)
def test_call_is_found_by(way: str) -> None:
    assert found_in(app__py=WAYS[way]) == ONE


def test_connection_of_another_file_is_followed() -> None:
    files = {
        "db__py": "from pymongo import MongoClient\ndb = MongoClient().app\nusers = db.users",
        "a__py": "from db import users as people\ndef f(x):\n    return people.find_one({'email': x})",
        "b__py": "import db\ndef f(x):\n    return db.users.find_one({'email': x})",
    }
    assert found_in(**files) == 2 * ONE


def test_all_names_of_a_file_and_of_a_library_are_known() -> None:
    files = {
        "models__py": "from mongoengine import *\nclass User(Document):\n    mail = StringField(db_field='email')",
        "app__py": "from models import *\ndef f(x):\n    return User.objects(mail=x).first()",
    }
    assert found_in(**files) == ["user.find_one(email)"]


def test_documents_of_flask_mongoengine_are_mongoengines() -> None:
    files = {
        "ext__py": "from flask_mongoengine import MongoEngine\ndb = MongoEngine()",
        "app__py": (
            "from ext import db\nclass User(db.Document):\n    mail = db.StringField(db_field='email')\n"
            "def f(x):\n    return User.objects(mail=x).first()"
        ),
    }
    assert found_in(**files) == ["user.find_one(email)"]


def test_common_name_is_listed_where_the_file_uses_a_driver() -> None:
    text = "def f(users, query):\n    return users.find(query)\ndef g(op):\n    op.create_index('x')"
    assert found_in(app__py=f"import pymongo\n{text}") == ["?.find(?)", "?.create_index()"]
    assert found_in(app__py=text) == []


def test_method_of_a_class_whose_base_is_not_known_is_listed() -> None:
    text = "from repositories import Base\nclass Users(Base):\n    def get(self, x):\n        return self.find_one({'email': x})"
    assert found_in(app__py=text) == ["?.find_one(email)"]


def test_function_that_calls_itself_ends() -> None:
    text = "def f(x):\n    return g(f(x))\ndef g(x):\n    return f(g(x))\nf(1).find_one({'a': 1})"
    assert found_in(app__py=text) == ["?.find_one(a)"]


UNKNOWN_FILTERS = {
    "a parameter": "def f(db, query):\n    return db.users.find(query)",
    "one field more, perhaps": "def f(db, x):\n    q = {}\n    if x:\n        q['a'] = x\n    return db.users.find(q)",
    "one of two": "def f(db, x):\n    q = {'a': 1} if x else {'b': 1}\n    return db.users.find(q)",
    "a field whose name is not known": "def f(db, name, x):\n    return db.users.find({name: x})",
    "a dict with another inside": "def f(db, more):\n    return db.users.find({'a': 1, **more})",
    "an $or of what is not known": "def f(db, parts):\n    return db.users.find({'$or': parts})",
    "arguments from elsewhere": "def f(db, arguments):\n    return db.users.find(*arguments)",
}


@pytest.mark.parametrize("why", UNKNOWN_FILTERS)
def test_call_whose_filter_cannot_be_known_is_listed_as_unknown(why: str) -> None:
    (call,) = calls_in(app__py=UNKNOWN_FILTERS[why])
    assert (call.collection, call.method) == ("users", "find")
    assert call.unknown


def test_call_on_what_cannot_be_known_is_listed_with_its_line() -> None:
    text = "def f(collection, documents):\n    x = 1\n    collection.insert_many(documents)"
    (call,) = calls_in(app__py=text)
    assert (call.collection, call.line) == (None, 3)
    assert "collection cannot be known" in call.unknown


def test_values_that_are_not_known_are_one_value_each() -> None:
    (call,) = calls_in(app__py="def f(db, x):\n    db.users.find({'a': x, 'b': {'$gt': x}, 'c': 5})")
    assert call.filter == {"a": SOME, "b": {"$gt": SOME}, "c": 5}


def test_chain_adds_to_its_call() -> None:
    text = """
        def f(db, x):
            cursor = db.users.find({'a': x}).sort([('b', -1)])
            cursor = cursor.hint('a_1').limit(5)
            return cursor.distinct('c')
    """
    (call,) = calls_in(app__py=text)
    assert (call.sort, set(call.options), call.cursor) == ((("b", -1),), {"hint"}, ("distinct",))


NOTHING = {
    "texts": "x = 'abc'.find('b')\ny = 'abc'.count('b')",
    "dicts and lists": "d = {}\nd.update(a=1)\nl = []\nl.insert(0, 1)\nl.remove(1)\nl.count(1)",
    "an SQL session": "from app import db\ndb.session.add(x)\ndb.session.execute('select 1')\ndb.create_all()",
    "files": "import os\nos.rename('a', 'b')\nos.remove('a')",
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_is_no_drivers_call_is_none(what: str) -> None:
    assert found_in(app__py=NOTHING[what]) == []


MODELS = """
    from mongoengine import DynamicDocument, IntField, StringField, Q

    class User(DynamicDocument):
        meta = {'collection': 'people'}
        name = StringField(primary_key=True)
        mail = StringField(db_field='email')
        age = IntField()
"""
ENGINE = {
    "User.objects(mail=x).first()": "people.find_one(email)",
    "User.objects.get(name=x)": "people.find_one(_id)",
    "User.objects.filter(age__gte=3, age__lt=5).count()": "people.count_documents(age $gte $lt)",
    "User.objects(address__city=x).order_by('-age').limit(3)": "people.find(address.city)",
    "User.objects(Q(age=3) | Q(mail=x))": "people.find($or)",
    "User.objects(mail__icontains=x)": "people.find(email)",
    "User.objects(age=3).update(inc__age=1)": "people.update_many(age)",
    "User.objects(age=3).update_one(set__mail=x)": "people.update_one(age)",
    "User.objects(age=3).modify(set__mail=x)": "people.find_one_and_update(age)",
    "User.objects(age=3).delete()": "people.delete_many(age)",
    "User.objects.aggregate([{'$match': {}}])": "people.aggregate()",
    "User.objects.distinct('age')": "people.distinct(nothing)",
    "User.objects.insert([User(name=x)])": "people.insert_many()",
    "User.objects.create(name=x)": "people.insert_one()",
    "User(name=x).save()": "people.insert_one()",
    "User.objects(__raw__={'age': {'$gt': 3}})": "people.find(age $gt)",
}


@pytest.mark.parametrize("call", ENGINE)
def test_mongoengine_is_the_call_that_it_makes(call: str) -> None:
    text = "from models import *\nfrom models import User\nfrom mongoengine import Q\ndef f(x):\n    return " + call
    assert found_in(models__py=MODELS, app__py=text) == [ENGINE[call]]


def test_document_of_mongoengine_is_saved_and_deleted_by_its_id() -> None:
    text = "from models import User\ndef f(x):\n    user = User.objects(mail=x).first()\n    user.save()\n    user.delete()"
    assert found_in(models__py=MODELS, app__py=text) == [
        "people.find_one(email)",
        "people.update_one(_id)",
        "people.delete_one(_id)",
    ]


def test_query_set_that_is_read_twice_is_two_calls() -> None:
    text = (
        "from models import User\ndef f(x):\n    found = User.objects(mail=x)\n    print(found.count())\n"
        "    return found.first()"
    )
    assert found_in(models__py=MODELS, app__py=text) == ["people.count_documents(email)", "people.find_one(email)"]
