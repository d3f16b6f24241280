"""Where the program `docferry` begins: an application that installed the client alone has no command line."""

from __future__ import annotations

import sys

EXTRA = ("click", "rich")


def main() -> None:
    """Run the command line. Without the extra `cli` it says what to install, and exits with 2."""
    try:
        from docferry.cli.main import main as commands
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        message = f'docferry: the command line needs {missing}, which is not installed: pip install "docferry[cli]"'
        print(message, file=sys.stderr)
        sys.exit(2)
    commands()
