"""The transforms that a migration file names: Python objects of the user's own, found by their names."""

from __future__ import annotations

import importlib
import re

from docferry.core.transform import Transform

_NAME = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def find_transform(name: str) -> Transform:
    """The `docferry.Transform` that `module:name` names. Importing a module runs it: it must be the user's own, on Python's path.

    Raises: ValueError, in words for the person who wrote the file.
    """
    if not re.fullmatch(_NAME, name, re.ASCII):
        raise ValueError("is no module:name of a docferry.Transform")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name} on Python's path (PYTHONPATH)") from None
    except Exception as error:
        raise ValueError(f"module {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, Transform):
        what = "has no such name" if found is None else f"names no docferry.Transform but {type(found).__name__}"
        raise ValueError(f"module {module} {what}: {attribute}")
    return found
