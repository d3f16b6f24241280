"""mongodump's files: names, metadata, documents in pieces of any size, the archive; and whatever is wrong with them is found."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from docferry.core.rollback_points.dump_files import (
    ArchiveCount,
    CollectionSpec,
    FileBroken,
    data_name,
    decode_metadata,
    encode_metadata,
    has_empty_timestamp,
    metadata_name,
    read_archive,
    require_decodable,
    split_documents,
)
from hypothesis import given
from hypothesis import strategies as st
from support.rollback_points.archives import archive

DOCUMENTS = [bson.encode({"_id": number, "x": "y" * number}) for number in range(20)]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize(
    ("collection", "stem"),
    [
        ("users", "users"),
        ("system.profile", "system.profile"),
        ("a/b%2F", "a%2Fb%252F"),
        ("ü x", "%C3%BC%20x"),
        ("$&+=:@;,?#", "$&+=:@%3B%2C%3F%23"),
        ("-_.~!*'()", "-_.~%21%2A%27%28%29"),
    ],
)
def test_file_names_are_those_of_mongodump(collection: str, stem: str) -> None:
    """Go's url.PathEscape: only letters, digits, -_.~ and $&+=:@ stay."""
    assert data_name("d", collection) == f"d/{stem}.bson"
    assert metadata_name("d", collection) == f"d/{stem}.metadata.json"


def test_metadata_comes_back_with_its_types() -> None:
    options = {"validator": {"n": {"$gt": Int64(5)}}, "size": 1.0}
    index: dict[str, Any] = {"v": 2, "key": {"b": 1, "a": -1}, "name": "b_1_a_-1", "expireAfterSeconds": Int64(60)}
    spec = CollectionSpec(name="users", kind="collection", uuid="ab" * 16, options=options, indexes=(index,))
    again = decode_metadata(encode_metadata(spec))
    assert again == spec
    assert list(again.indexes[0]["key"]) == ["b", "a"]
    assert type(again.options["validator"]["n"]["$gt"]) is Int64
    assert json.loads(encode_metadata(spec))["indexes"][0]["v"] == {"$numberInt": "2"}


def test_metadata_of_an_older_mongodump_is_read() -> None:
    old = b'{"options":{"viewOn":"users","pipeline":[]},"indexes":[],"uuid":"","collectionName":"some"}'
    assert decode_metadata(old).kind == "view"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"options": {}, "indexes": 5, "collectionName": "x"}'])
def test_what_is_no_metadata_is_refused(data: bytes) -> None:
    with pytest.raises(FileBroken, match="is no metadata"):
        decode_metadata(data)


@given(st.integers(1, 200))
def test_documents_come_out_one_by_one_whatever_the_pieces(size: int) -> None:
    assert list(split_documents(pieces(b"".join(DOCUMENTS), size))) == DOCUMENTS


@given(st.integers(0, len(b"".join(DOCUMENTS)) - 1))
def test_file_cut_anywhere_but_between_documents_is_found(at: int) -> None:
    data = b"".join(DOCUMENTS)[:at]
    ends = [sum(map(len, DOCUMENTS[:number])) for number in range(len(DOCUMENTS))]
    if at in ends:
        assert list(split_documents([data])) == DOCUMENTS[: ends.index(at)]
        return
    with pytest.raises(FileBroken, match=r"cut off|no document"):
        list(split_documents([data]))


@pytest.mark.parametrize("length", [0, 4, -1, 2**31 - 1])
def test_length_that_no_document_has_is_found_without_reading_so_much(length: int) -> None:
    with pytest.raises(FileBroken, match="no document at byte 0"):
        next(split_documents([struct.pack("<i", length) + b"x" * 20]))


def test_document_that_does_not_decode_is_found_and_strings_that_are_no_utf_8_are_none_of_that() -> None:
    good = bson.encode({"a": "\x00x"})
    require_decodable(good.replace(b"\x00x", b"\xffx"))
    with pytest.raises(FileBroken, match="does not decode"):
        require_decodable(good.replace(b"\x02a", b"\x55a"))


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"_id": 1, "t": Timestamp(0, 0)}, True),
        ({"_id": Timestamp(0, 0), "in": {"t": Timestamp(0, 0)}, "l": [Timestamp(0, 0)], "i": Int64(0)}, False),
        ({"a": "x" * 9, "t": Timestamp(0, 1), "u": Timestamp(0, 0)}, True),
    ],
)
def test_empty_timestamp_that_mongodb_would_fill_is_found(document: dict[str, Any], found: bool) -> None:
    assert has_empty_timestamp(bson.encode(document)) is found


# --- mongodump's archive ---------------------------------------------------------------------------------------------

CONTENT: dict[str, Sequence[bytes]] = {"users": DOCUMENTS, "empty": []}


@given(st.integers(1, 500))
def test_archive_is_counted_whatever_the_pieces(size: int) -> None:
    counts = read_archive(pieces(archive("shop", CONTENT), size))
    sizes = sum(map(len, DOCUMENTS))
    assert counts["users"] == ArchiveCount(documents=20, bytes=sizes, ended=True)
    assert counts["empty"] == ArchiveCount(documents=0, bytes=0, ended=True)


@given(st.integers(0, len(archive("shop", CONTENT)) - 1))
def test_archive_that_is_cut_anywhere_is_found(at: int) -> None:
    with pytest.raises(FileBroken):
        read_archive([archive("shop", CONTENT)[:at]])


def test_archive_with_a_segment_of_nothing_it_announced_is_refused() -> None:
    data = archive("shop", CONTENT).replace(
        b"\x02collection\x00\x06\x00\x00\x00users\x00\x08EOF", b"\x02collection\x00\x06\x00\x00\x00wrong\x00\x08EOF"
    )
    with pytest.raises(FileBroken, match="belongs to no collection"):
        read_archive([data])
