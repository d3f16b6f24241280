"""Test files that share what is dear to start go to one process of pytest-xdist."""

from __future__ import annotations

from support.place import ROOT
from support.together import TOGETHER, TogetherScheduling


def scope(nodeid: str) -> str:
    return str(object.__new__(TogetherScheduling)._split_scope(nodeid))


def test_files_of_a_folder_that_shares_are_one_scope_and_all_others_their_own() -> None:
    (folder,) = TOGETHER
    files = [str(one.relative_to(ROOT)) for one in (ROOT / folder).glob("test_*.py")]
    assert len(files) > 1
    assert {scope(f"{file}::test_it") for file in files} == {folder}
    assert scope("tests/unit/house/test_together.py::test_it") == "tests/unit/house/test_together.py"
