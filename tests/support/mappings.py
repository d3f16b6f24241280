"""Migration files for property tests: the shop, the generic one, and two that are made to be difficult."""

from __future__ import annotations

from docferry.config import load_migration, parse_migration

from support.place import ROOT

MIGRATIONS = ROOT / "include" / "migrations"
SHOP = load_migration(MIGRATIONS / "shop.yaml")
GENERIC = load_migration(MIGRATIONS / "events.yaml").mapping("events")

_DIFFICULT = b"""
migration: difficult
source: {database: d}
tables:
  Odd: {indexes: [GSI1], ttl_attribute: expires}
  Drop: {}
  Refuse: {}
  References: {indexes: [GSI1]}
  Designed:   # other names of keys, and numbers in an index
    key: {PK: a, SK: username}
    indexes:
      GSI1: {key: {PK: email, SK: {name: n, type: N}}, projection: KEYS_ONLY}
      GSI2: {key: {PK: userId}}
  Alone: {key: {PK: swap1}}
  Turned: {indexes: [GSI1]}
  Computed: {key: {PK: pk, SK: {name: sk, type: N}}, indexes: {GSI1: null, GSI2: {key: {PK: {name: e, type: N}}}}}
  Sharded: {indexes: [GSI1, GSI2]}
collections:
  designed:
    table: Designed
    item:
      entity: DESIGNED
      key: {PK: "D#{_id}", SK: ROOT}
      index:
        GSI1: {PK: "A#{a.b.c}", SK: "{n:-number}"}
        GSI2: {PK: "F#{flag:number}"}
      attributes: {first: profile.first}
    children:
      items: {entity: DESIGNED_ITEM, key: {SK: "I#{index:d}"}}
  turned:   # what is stored is what the users' own function makes of a document
    table: Turned
    transform: support.transforms:swapped
    item:
      entity: TURNED
      key: {PK: "T#{_id}", SK: ROOT}
      index: {GSI1: {PK: "A#{a.b.c}", SK: "N#{flag}"}}
      attributes: {first: profile.first, n: note}
    children: {items: {entity: TURNED_ITEM, key: {SK: "I#{index:d}"}}}
  computed:   # keys of numbers, whole and in order
    table: Computed
    item:
      entity: COMPUTED
      key: {PK: "C#{_id}", SK: "{n}"}
      index: {GSI1: {PK: "P#{a.b.c}", SK: "{price:-number}"}, GSI2: {PK: "{score}"}}
  sharded:
    table: Sharded
    item:
      entity: SHARDED
      key: {PK: "S#{_id}", SK: ROOT}
      index:
        GSI1: {PK: "F#{flag}#{_id:shard(7)}", SK: "W#{when:-date}", when: {kind: {exists: false}}}
        GSI2: {PK: "N#{note}", SK: "{n:05d}"}
  alone: {table: Alone, item: {entity: ALONE, key: {PK: "A#{_id}"}}}
  odd:   # attributes that bear other fields' names, swap them, reach into the _id, and claim types they do not have
    table: Odd
    item:
      entity: ODD
      key: {PK: "ODD#{_id}", SK: ROOT}
      index:
        GSI1: {PK: "A#{a.b.c}#{swap2}", SK: "N#{n:d}", when: {flag: true}}
      attributes: {swap1: swap2, swap2: swap1, email: contact.email, contact: who, "a.b": a.b.d, deep: a.b.c,
        tenant: _id.tenant, idCopy: _id, "x/~y": "slash/name", moved: expires, type: PK}
      types: {swap1: date, swap2: double, email: oid, deep: "decimal:2", n: long, flag: double, tenant: code, idCopy: oid,
        "a.b": timestamp, contact: long, moved: decimal, "x/~y": "decimal:0", userId: oid, "~PK": date}
    children:
      cart.lines:
        entity: LINE
        key: {SK: "LINE#{index:05d}"}
        attributes: {lineId: _id, sku: product.sku, product: note, i: _i}
        types: {lineId: oid, price: "decimal:2", sku: code, product: long}
      a.b.list:
        entity: SUB
        key: {SK: "SUB#{index:d}#{type}"}
        types: {type: date}
  references:   # paths lead into DBRefs, in keys, in an index, and to attributes; children are made of them
    table: References
    item:
      entity: REFERRING
      key: {PK: "R#{_id}", SK: "O#{owner.$id}"}
      index: {GSI1: {PK: "L#{link.$ref}", SK: "L#{link.$id}"}}
      attributes: {ownerId: owner.$id, kind: link.$ref, linkId: link.$id, more: link.more.x}
    children:
      friends: {entity: FRIEND, key: {SK: "F#{index:d}"}, attributes: {friendId: $id, deep: inner.$id}}
      link.list: {entity: LISTED, key: {SK: "I#{index:d}"}}
  dropping: &strict
    table: Drop
    unmapped: drop
    item:
      entity: DROP
      key: {PK: "DROP#{_id}", SK: ROOT}
      attributes: {first: profile.first, zip: profile.home.zip, whole: whole}
    children:
      cart.lines: {entity: DROP_LINE, key: {SK: "L#{index:03d}"}, attributes: {qty: qty, sku: product.sku}}
  refusing:
    <<: *strict
    table: Refuse
    unmapped: refuse
"""
_difficult = parse_migration(_DIFFICULT)
ODD, DROPPING, REFUSING = (_difficult.mapping(name) for name in ("odd", "dropping", "refusing"))
REFERENCES = _difficult.mapping("references")

REVERSIBLE = {
    "generic": GENERIC,
    **{name: SHOP.mapping(name) for name in ("users", "orders", "products", "categories")},
    "odd": ODD,
    "references": REFERENCES,
    "designed": _difficult.mapping("designed"),
    "alone": _difficult.mapping("alone"),
    "turned": _difficult.mapping("turned"),
    "sharded": _difficult.mapping("sharded"),
}
OF_NUMBERS = _difficult.mapping("computed")
"""Its keys take numbers alone, so that not every drawn document has any."""
