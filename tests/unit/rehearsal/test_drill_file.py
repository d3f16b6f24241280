"""The drill goes by the file of the repository's example, also where there is no repository."""

from docferry.rehearsal.drill import SHOP_FILE as DRILL_FILE
from support.place import SHOP_FILE


def test_the_drill_has_the_migration_file_of_the_example() -> None:
    assert DRILL_FILE.read_text() == SHOP_FILE.read_text(), "copy include/migrations/shop.yaml into docferry/rehearsal"
