"""Code on the pages can be used as it stands: Python compiles, migration files load, commands exist with these options."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from docferry.cli.main import main
from docferry.config import load_migration
from support.house.text import CURRENT_PAGES, PACKAGE, blocks, name
from support.place import ROOT

LANGUAGES = {"python", "yaml", "json", "ini", "sh", "console", "mermaid", "text"}
TOP_LEVEL_AWAIT = 0x2000
WHOLE = {
    "migration": "example",
    "source": {"connection": "mongo_default", "database": "myapp"},
    "target": {"connection": "aws_default", "region": "us-east-1"},
    "tables": {"Shop": {"indexes": ["GSI1", "GSI2"]}},
    "collections": {"events": {}},
}
"""What a part of a migration file is put into, so that it can be loaded."""
INLINE = re.compile(r"`(docferry [^`]+)`")
IN_SOURCE = re.compile(r"\bdocferry ([a-z][a-z-]+)((?: (?:[A-Z]+|\{\w+\}|--[a-z-]+))*)")


def blocks_of(*languages: str) -> list[Any]:
    return [
        pytest.param(page, text, id=f"{name(page)}-{number}")
        for page in CURRENT_PAGES
        for number, (language, text) in enumerate(blocks(page), 1)
        if language in languages
    ]


def command_lines(language: str, text: str) -> Iterator[str]:
    """The commands of a block: of a shell's every line, of a session those after its prompt."""
    for line in text.replace("\\\n", " ").splitlines():
        if language == "sh":
            yield line
        elif line.startswith("$ "):
            yield line[2:]


def docferry_calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of docferry in a line, those in $(...) included."""
    for call in re.findall(r"(?:^|\$\(|&& |\| |; |eval \")(?:\w+=\S+ )*docferry ([^|;&)#]*)", line.strip()):
        yield shlex.split(call.strip())


def unknown_of(arguments: list[str]) -> list[str]:
    """What of a call the command line does not know."""
    words = [word for word in arguments if word not in {"…", "..."}]
    if not words or words[0] in {"FILE", "--help", "--version", "-h"}:
        return []
    command = main.get_command(click.Context(main), words[0])
    if command is None:
        return [words[0]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
    }
    given = [re.sub(r"[\[\],.]", "", word).split("=")[0] for word in words[1:] if re.match(r"\[?--?[a-z]", word)]
    return [f"{words[0]} {option}" for option in given if option not in known]


def missing_of(command: str, rest: str) -> list[str]:
    """The options without which a command is refused, of a command that is told with its file: it can be used as it stands."""
    words = rest.split()
    needed = [one for one in main.commands[command].params if isinstance(one, click.Option) and one.required]
    return [] if "FILE" not in words else [one.opts[0] for one in needed if one.opts[0] not in words]


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_each_block_says_its_language(page: Path) -> None:
    assert {language for language, _ in blocks(page)} - LANGUAGES == set()


@pytest.mark.parametrize(("page", "text"), blocks_of("python"))
def test_python_compiles(page: Path, text: str) -> None:
    compile(text, name(page), "exec", flags=TOP_LEVEL_AWAIT)


def test_json_parses() -> None:
    """There may be none."""
    for page in CURRENT_PAGES:
        for language, text in blocks(page):
            if language == "json":
                json.loads(text)


@pytest.mark.parametrize(("page", "text"), blocks_of("yaml"))
def test_a_part_of_a_migration_file_loads(page: Path, text: str, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(yaml.safe_dump(WHOLE | yaml.safe_load(text)))
    load_migration(file)


@pytest.mark.parametrize(("page", "text"), blocks_of("sh"))
def test_shell_parses(page: Path, text: str) -> None:
    parsed = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert parsed.stderr == ""


@pytest.mark.parametrize("page", CURRENT_PAGES, ids=name)
def test_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    lines = [
        line
        for language, text in blocks(page)
        if language in {"sh", "console"}
        for line in command_lines(language, text)
    ]
    lines += INLINE.findall(re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))
    assert [unknown for line in lines for call in docferry_calls(line) for unknown in unknown_of(call)] == []


def test_options_of_commands_that_messages_name_exist() -> None:
    texts = [
        (path, path.read_text())
        for folder in (PACKAGE, ROOT / "plugins", ROOT / "dags")
        for path in folder.rglob("*.py")
    ]
    wrong = [
        (name(path), unknown)
        for path, text in texts
        for command, rest in IN_SOURCE.findall(text)
        if command in main.commands
        for unknown in [*unknown_of([command, *rest.split()]), *missing_of(command, rest)]
    ]
    assert wrong == []
