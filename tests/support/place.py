"""Where the repository is."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
SHOP_FILE = ROOT / "include" / "migrations" / "shop.yaml"
