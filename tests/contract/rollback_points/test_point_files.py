"""What every place for rollback points promises: a file is there whole or not at all, and nothing is left of what is removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from docferry.adapters.aws.rollback_points.s3 import PART_BYTES, S3Files
from docferry.adapters.local.point_files import DirectoryFiles
from docferry.errors import PermanentStoreError, StoreError
from docferry.ports.rollback_points import PointFiles

LARGE = [bytes([number]) * 1_500_000 for number in range(12)]
SMALL = [b"a", b"", b"bc"]


@pytest.fixture(params=["directory", "s3", "s3 without a prefix"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> PointFiles:
    if request.param == "directory":
        return DirectoryFiles(str(tmp_path / "deep" / "points"), "shop")
    request.getfixturevalue("stack_env")
    bucket = f"files-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return S3Files(boto3.Session(), f"s3://{bucket}/a/b/" if request.param == "s3" else f"s3://{bucket}", "shop")


def content(files: PointFiles, point: str, name: str) -> bytes:
    return b"".join(files.read(point, name))


@pytest.mark.parametrize("chunks", [SMALL, [], LARGE, [b"x" * PART_BYTES]], ids=["small", "empty", "large", "one part"])
def test_file_comes_back_as_it_was_written(files: PointFiles, chunks: list[bytes]) -> None:
    files.write("one", "shop/users.bson", iter(chunks))
    files.finish("one")
    assert content(files, "one", "shop/users.bson") == b"".join(chunks)
    assert files.size("one", "shop/users.bson") == sum(map(len, chunks))
    assert files.place("one").endswith("/shop/one")


@pytest.mark.parametrize("chunks", [SMALL, LARGE], ids=["small", "large"])
def test_file_whose_source_breaks_is_not_there_and_the_error_is_the_source_s(
    files: PointFiles, chunks: list[bytes]
) -> None:
    def broken() -> Iterator[bytes]:
        yield from chunks
        raise KeyError("the source")

    with pytest.raises(KeyError):
        files.write("one", "shop/users.bson", broken())
    assert files.size("one", "shop/users.bson") is None
    with pytest.raises(PermanentStoreError):
        content(files, "one", "shop/users.bson")


def test_file_is_written_over_and_a_point_is_removed_without_its_neighbours(files: PointFiles) -> None:
    for point in ("one", "one-more"):
        files.write(point, "shop/a/b.bson", [b"old"])
        files.write(point, "shop/a/b.bson", [b"new"])
        files.finish(point)
    files.write("half", "x", [b"x"])
    assert [files.holds(point) for point in ("one", "half", "never", "on")] == [True, True, False, False]
    for point in ("one", "half", "never"):
        files.remove(point)
        files.remove(point)
    assert files.size("one", "shop/a/b.bson") is files.size("half", "x") is None
    assert not files.holds("one")
    assert not files.holds("half")
    assert content(files, "one-more", "shop/a/b.bson") == b"new"


def test_directory_of_an_unfinished_point_says_so_in_its_name(tmp_path: Path) -> None:
    files = DirectoryFiles(str(tmp_path), "shop")
    files.write("one", "shop/users.bson", [b"x"])
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["one.unfinished"]
    files.finish("one")
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["one"]


def test_directory_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("a file in the way")
    with pytest.raises(StoreError, match=f"cannot write {tmp_path}/shop/one"):
        DirectoryFiles(str(tmp_path), "shop").write("one", "x", [b"x"])


def test_upload_whose_source_breaks_leaves_no_parts_behind(stack_env: dict[str, str]) -> None:
    """They would cost money, and no list of objects shows them."""
    client = boto3.client("s3")
    bucket = f"files-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)

    def broken() -> Iterator[bytes]:
        yield from LARGE
        assert client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        raise KeyError("the source")

    with pytest.raises(KeyError):
        S3Files(boto3.Session(), f"s3://{bucket}", "shop").write("one", "users.bson", broken())
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


def test_parts_of_an_upload_that_nobody_completed_are_removed(stack_env: dict[str, str]) -> None:
    """A process that is killed aborts nothing."""
    client = boto3.client("s3")
    bucket = f"files-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    client.create_multipart_upload(Bucket=bucket, Key="shop/one/users.bson")
    client.create_multipart_upload(Bucket=bucket, Key="shop/one-more/users.bson")
    S3Files(boto3.Session(), f"s3://{bucket}", "shop").remove("one")
    (left,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert left["Key"] == "shop/one-more/users.bson"
