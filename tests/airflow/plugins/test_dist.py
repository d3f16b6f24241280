"""What `make dist` builds: plugins.zip is enough for MWAA without include/, and no recipe moves a pin of Airflow's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from support.place import ROOT

pytestmark = pytest.mark.slow

# As a process of Airflow there: nothing of the repository is on the path, and the library comes from the wheel.
LOOK = """
import json, sys
sys.path[:] = [entry for entry in sys.path if not entry.endswith("/include")]
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from airflow import plugins_manager
from airflow.dag_processing.dagbag import BundleDagBag
import docferry

folder = Path(sys.argv[1])
bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
plugins, broken = plugins_manager._get_plugins()
print("RESULT" + json.dumps({
    "library": docferry.__file__, "errors": bag.import_errors, "dags": sorted(bag.dag_ids),
    "plugins": [plugin.name for plugin in plugins], "broken": broken,
    "foreign": [name for name, module in sys.modules.items() if sys.argv[3] in (getattr(module, "__file__", "") or "")],
}))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("made") / "dist"
    done = subprocess.run(
        [sys.executable, "-m", "deploy", "--to", str(to), "--python", "3.12"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return to


def unpacked(archive: Path, to: Path) -> Path:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(to)
    return to


def test_plugins_zip_as_mwaa_unpacks_it_has_the_plugin_and_all_dags_parse(dist: Path, tmp_path: Path) -> None:
    plugins = unpacked(dist / "mwaa" / "plugins.zip", tmp_path / "plugins")
    assert not list(plugins.rglob("__pycache__"))
    [wheel] = plugins.glob("*.whl")
    library = unpacked(wheel, tmp_path / "library")
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHONPATH", "DOCFERRY"))
    }
    env |= {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "DOCFERRY_MIGRATIONS": str(dist / "mwaa" / "dags" / "migrations"),
    }
    words = [sys.executable, "-c", LOOK, str(dist / "mwaa" / "dags"), str(library), str(ROOT / "include")]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
    assert (seen["errors"], seen["broken"], seen["foreign"]) == ({}, {}, [])
    assert seen["library"].startswith(str(library))
    assert "docferry" in seen["plugins"]
    assert {"shop.playbook", "shop.backfill", "events.replicate", "analyze"} <= set(seen["dags"])


def test_airflows_constraints_decide_every_version(dist: Path) -> None:
    mwaa = (dist / "mwaa" / "requirements.txt").read_text().splitlines()
    assert any(
        re.fullmatch(r'--constraint "https://.*/constraints-[\d.]+/constraints-3\.12\.txt"', line) for line in mwaa
    )
    for name in ("mwaa", "image"):
        lines = (dist / name / "requirements.txt").read_text().splitlines()
        asked = [Requirement(line) for line in lines if line and not line.startswith(("-", "#"))]
        assert {str(one.specifier) for one in asked if one.name != "docferry"} == {""}
    recipe = (dist / "image" / "Dockerfile").read_text()
    assert "pip list --format=freeze > /tmp/constraints.txt" in recipe
    assert "--constraint /tmp/constraints.txt" in recipe


def test_recipe_copies_only_what_lies_beside_it_and_every_word_is_filled_in(dist: Path) -> None:
    recipe = (dist / "image" / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE) for word in line.split()]
    assert len(sources) > 4
    assert [name for name in sources if not (dist / "image" / name).exists()] == []
    written = [path for path in dist.rglob("*") if path.suffix in (".txt", ".sh") or path.name == "Dockerfile"]
    assert [path.name for path in written if re.search("@[A-Z]+@", path.read_text())] == []
