"""Driver calls in JavaScript and TypeScript: by whichever name the collection goes."""

from __future__ import annotations

import pytest
from docferry.core.source.program.models import plural
from support.source.calls import PARSERS, calls_in, found_in

ONE = ["users.find_one(email)"]
WAYS = {
    "a chain from the client": "const M = require('mongodb').MongoClient;\nnew M(u).db('a').collection('users').findOne({email})",
    "an import": """
        import { MongoClient as Connection } from 'mongodb';
        const client = await Connection.connect(u);
        const users = client.db().collection('users');
        export const f = (email) => users.findOne({ email });
    """,
    "an import of everything": "import * as m from 'mongodb';\nnew m.MongoClient(u).db('a').collection('users').findOne({email})",
    "a promise": """
        const { MongoClient } = require('mongodb');
        MongoClient.connect(u).then((c) => c.db('a').collection('users').findOne({ email }));
    """,
    "a callback": """
        require('mongodb').MongoClient.connect(u, function (err, client) {
          const db = client.db('a');
          db.collection('users').findOne({ email }, function (err, found) {});
        });
    """,
    "a request's own": "app.get('/', async (req, res) => { await req.app.locals.db.collection('users').findOne({ email }); });",
    "a function that gives a collection": "async (email) => { const c = await getCollection('users'); c.findOne({ email }); }",
    "taken apart, with another name and a default": """
        const all = (db) => ({ users: db.collection('users') });
        function f(db, email) { const { users: people = null } = all(db); return people.findOne({ email }); }
    """,
    "a field of the class": """
        class Users { #users; constructor(db) { this.#users = db.collection('users'); }
          find(email) { return this.#users?.findOne({ email }); } }
    """,
    "a static connection": """
        class Store { static db; static async open(client) { Store.db = client.db('a'); } }
        const f = (email) => Store.db.collection('users').findOne({ email });
    """,
    "a getter": """
        class Users { constructor(db) { this.db = db; } get people() { return this.db.collection('users'); }
          find(email) { return this.people.findOne({ email }); } }
    """,
    "a frozen table of names": """
        const NAMES = Object.freeze({ users: 'users' });
        const f = (db, email) => db.collection(NAMES.users).findOne({ email });
    """,
    "nested in a condition": "const f = (db, email) => (email && db ? db.collection('users').findOne({ email }) : null);",
    "in a template": "const f = (db, email) => `${db.collection('users').findOne({ email })}`;",
    "in a switch": "function f(db, k, email) { switch (k) { case 1: db.collection('users').findOne({ email }); } }",
    "in a catch": "function f(db, email) { try { g(); } catch { db.collection('users').findOne({ email }); } }",
    "a filter in a name": "function f(db, email) { const q = {}; q.email = email; return db.collection('users').findOne(q); }",
    "a filter with another inside": "const A = { email: 1 };\nconst f = (db) => db.collection('users').findOne({ ...A });",
    "a comment inside": "const f = (db, email) => db.collection('users').findOne(/* by mail */ { email /* it */ });",
}  # fmt: skip
TYPED = {
    "an enum": """
        export enum Name { Users = 'users', Orders = 'orders' }
        export const f = (db: Db, email: string) => db.collection(Name.Users).findOne({ email });
    """,
    "an annotated parameter": "export const f = (store: Db, email: any) => store.collection<User>('users').findOne({ email });",
    "a parameter that is a field": """
        export class Users { constructor(private readonly store: Db) {}
          find(email: string) { return this.store.collection('users').findOne({ email } as Filter<User>); } }
    """,
    "an assertion": "const f = (store: any, email: any) => (store as any).db('a').collection('users')!.findOne({ email });",
    "a generic": "const f = async <T,>(db: Db, email: string): Promise<T> => db.collection<T>('users').findOne<T>({ email });",
    "a namespace and an enum": """
        enum Kind { A = 'a' }
        namespace Inner { export const f = (db: Db, email: string) => db.collection('users').findOne({ email }); }
    """,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_call_is_found_by(way: str) -> None:
    assert found_in(app__js=WAYS[way]) == ONE


@pytest.mark.parametrize("way", [*WAYS, *TYPED])
def test_call_is_found_in_typescript_by(way: str) -> None:
    assert found_in(app__ts=(WAYS | TYPED)[way]) == ONE


def test_call_in_markup_is_found() -> None:
    text = "export const Page = ({ db, email }) => <p title='x'>{db.collection('users').findOne({ email })}</p>;"
    assert found_in(app__jsx=text) == ONE
    assert found_in(app__tsx=text) == ONE


EXPORTS = {
    "module.exports": ("module.exports = { users: db.collection('users') };", "const { users } = require('./db');"),
    "exports.name": ("exports.users = db.collection('users');", "const users = require('./db').users;"),
    "export const": ("export const users = db.collection('users');", "import { users } from './db.js';"),
    "export default": ("export default db.collection('users');", "import users from './db';"),
    "export as": (
        "const u = db.collection('users');\nexport { u as users };",
        "import * as d from './db';\nconst {users} = d;",
    ),
    "a connection that is made later": (
        "export let users;\nexport async function open(c) { users = c.db('a').collection('users'); }",
        "import { users } from './db';",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", EXPORTS)
def test_collection_of_another_file_is_followed(how: str) -> None:
    made, taken = EXPORTS[how]
    used = f"{taken}\nconst f = (email) => users.findOne({{ email }});"
    assert (
        found_in(
            db__js=f"const {{ MongoClient }} = require('mongodb');\nconst db = new MongoClient(u).db();\n{made}",
            app__js=used,
        )
        == ONE
    )


def test_what_a_file_passes_on_is_followed() -> None:
    files = {
        "one__ts": "export const users = db.collection('users');",
        "index__ts": "export * from './one';\nexport { users as people } from './one';",
        "a__ts": "import { users } from './index';\nconst f = (email) => users.findOne({ email });",
        "b__ts": "import { people } from '.';\nimport { people as p } from './index';\nconst f = (email) => p.findOne({email});",
    }
    assert found_in(**files) == 2 * ONE


UNKNOWN = {
    "a parameter": "const f = (db, q) => db.collection('users').find(q);",
    "one field more, perhaps": "function f(db, x) { const q = {}; if (x) { q.a = x; } return db.collection('users').find(q); }",
    "a computed name": "const f = (db, k) => db.collection('users').find({ [k]: 1 });",
    "spread of what is not known": "const f = (db, more) => db.collection('users').find({ a: 1, ...more });",
    "a name of a collection": "const f = (db, name) => db.collection(name).find({ a: 1 });",
    "a template": "const f = (db, t) => db.collection(`users_${t}`).find({ a: 1 });",
    "a model that is handed in": "const f = (userModel) => userModel.find({ a: 1 });",
}


@pytest.mark.parametrize("why", UNKNOWN)
def test_call_that_cannot_be_known_is_listed_as_unknown(why: str) -> None:
    (call,) = calls_in(app__js=UNKNOWN[why])
    assert call.method == "find"
    assert call.unknown


NOTHING = {
    "arrays": "const a = [1]; a.find((x) => x > 1); a.filter(Boolean); list.find(isOne);",
    "maps and sets": "const m = new Map(); m.delete('a'); new Set().delete(1); m.get('x').count();",
    "the page": "document.querySelector('a').remove(); $('a').find('b').remove(); window.open('x');",
    "other libraries": "axios.create({ a: 1 }); crypto.createHash('md5').update('x'); app.options('/', cors());",
}


@pytest.mark.parametrize("what", NOTHING)
def test_what_is_no_drivers_call_is_none(what: str) -> None:
    assert found_in(app__js=NOTHING[what]) == []


MODEL = """
    const mongoose = require('mongoose');
    const schema = new mongoose.Schema({ name: String });
    module.exports = mongoose.model('User', schema);
"""
MONGOOSE = {
    "User.findById(x)": "users.find_one(_id)",
    "User.find({ a: x }).sort('-b').limit(3).populate('c').lean()": "users.find(a)",
    "User.find().where('a').gt(x).lt(y)": "users.find(a $gt $lt)",
    "User.find({ a: x }).countDocuments()": "users.count_documents(a)",
    "User.findOneAndUpdate({ a: x }, { b: y }, { new: true, upsert: true })": "users.find_one_and_update(a; upsert)",
    "User.findByIdAndDelete(x)": "users.find_one_and_delete(_id)",
    "User.create({ name: x })": "users.insert_one()",
    "User.insertMany([{ name: x }])": "users.insert_many()",
    "new User({ name: x }).save()": "users.insert_one()",
    "User.updateMany({ a: x }, { b: y })": "users.update_many(a)",
    "User.aggregate([{ $match: { a: x } }])": "users.aggregate()",
    "User.exists({ a: x })": "users.find_one(a)",
    "User.bulkWrite([])": "users.bulk_write()",
    "User.find({ $or: [{ a: x }, { b: x }] })": "users.find($or)",
}


@pytest.mark.parametrize("call", MONGOOSE)
def test_mongoose_is_the_call_that_it_makes(call: str) -> None:
    text = f"const User = require('./models/user');\nasync function f(x, y) {{ return await {call}; }}"
    assert found_in(**{"models/user__js": MODEL, "app__js": text}) == [MONGOOSE[call]]


def test_document_of_mongoose_is_saved_and_deleted_by_its_id() -> None:
    text = """
        const User = require('./models/user');
        async function f(x) { const u = await User.findOne({ a: x }); u.b = 1; await u.save(); await u.deleteOne(); }
        async function g() { for (const u of await User.find({})) { await u.save(); } }
    """
    assert found_in(**{"models/user__js": MODEL, "app__js": text}) == [
        "users.find_one(a)", "users.update_one(_id)", "users.delete_one(_id)", "users.find(nothing)", "users.update_one(_id)",
    ]  # fmt: skip


PLURALS = {
    "User": "users", "Person": "people", "Category": "categories", "Box": "boxes", "Child": "children", "News": "news",
    "OrderStatus": "orderstatuses", "Bus": "buses", "Day": "days", "Data": "datas", "Analysis": "analyses",
}  # fmt: skip


@pytest.mark.parametrize("name", PLURALS)
def test_name_of_a_models_collection(name: str) -> None:
    assert plural(name) == PLURALS[name]


def test_file_with_an_error_is_read_on_behind_it_and_says_where() -> None:
    text = "const a = ;\nfunction (\n\nconst f = (db) => db.collection('users').findOne({ a: 1 });\n"
    program = PARSERS[".js"]("app.js", text)
    assert "line 1" in program.trouble
    assert "users.find_one(a)" in found_in(app__js=text)


def test_what_is_nested_too_deeply_is_an_error_and_no_crash() -> None:
    with pytest.raises((ValueError, RecursionError)):
        PARSERS[".js"]("app.js", "x = " + "[" * 5_000 + "]" * 5_000)
