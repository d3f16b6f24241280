"""Stand-ins for mongodump and mongorestore: `python tools.py mongodump ...`. They take the same words, read the same kind of
config file, and write and read the same kind of archive; whatever else the real ones do, they do not."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import yaml
from bson.codec_options import CodecOptions
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps, loads
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from support.place import TESTS
from support.rollback_points.archives import archive, read

RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)


def install(directory: Path, *programs: str, fails: bool = False) -> str:
    """Programs of these names in a directory; a PATH on which they are found first."""
    directory.mkdir(exist_ok=True)

    for program in programs:
        end = "; exit 7" if fails else ""
        path = directory / program
        path.write_text(
            f'#!/bin/sh\necho "$0 $@" >> {directory}/words\nPYTHONPATH={TESTS} {sys.executable} {__file__} {program} "$@"{end}\n'
        )
        path.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def _option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def main() -> None:
    config = Path(_option("--config"))
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    uri = yaml.safe_load(config.read_text())["uri"]
    print(f"connected to {uri}", file=sys.stderr)
    with MongoClient[Any](uri, appname="docferry") as client:
        if sys.argv[1] == "mongodump":
            sys.stdout.buffer.write(_dump(client[_option("--db")]))
        else:
            _restore(client[_option("--nsTo").removesuffix(".*")])


def _dump(database: Any) -> bytes:
    names = sorted(database.list_collection_names())
    metadata = {
        name: dumps(
            {
                "options": database[name].options(),
                "indexes": list(database[name].list_indexes()),
                "collectionName": name,
            },
            json_options=CANONICAL_JSON_OPTIONS,
        )
        for name in names
    }
    content = {
        name: [bytes(one.raw) for one in database.get_collection(name, codec_options=RAW).find()] for name in names
    }
    return archive(database.name, content, metadata)


def _restore(database: Any) -> None:
    metadata, documents = read(sys.stdin.buffer.read())
    for name, told in metadata.items():
        database.create_collection(name)
        if documents[name]:
            database[name].insert_many([RawBSONDocument(one) for one in documents[name]])
        indexes = [one for one in loads(told)["indexes"] if one["name"] != "_id_"]
        if indexes:
            database.command("createIndexes", name, indexes=indexes)


if __name__ == "__main__":
    main()
