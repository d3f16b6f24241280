"""The migration file: read, checked, and turned into frozen settings.

`load_migration(path)` is the way in; what it gives is a `Migration`.
"""

from docferry.config.build import Migration
from docferry.config.load import load_migration, migration_files, parse_migration

__all__ = ["Migration", "load_migration", "migration_files", "parse_migration"]
