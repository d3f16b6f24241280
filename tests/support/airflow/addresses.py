"""Every address that docferry's plugin adds to Airflow's API server, as the plugin itself names them: a new one is found here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from docferry.sandbox.airflow_api import AirflowApi

from support.place import ROOT

LIST = """
import json
from docferry_plugin import DocferryPlugin
apps = DocferryPlugin().fastapi_apps
print(json.dumps([[one, app["url_prefix"] + route.path] for app in apps for route in app["app"].routes for one in route.methods]))
"""
FILLED = {
    "{dag_id}": "shop.playbook", "{file}": "room.js", "{collection}": "users", "{run_id}": "manual__1",
}  # fmt: skip
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """`path` has values in place of its parameters."""

    method: str
    path: str


def addresses_of_plugin(home: Path) -> list[Address]:
    """Asked of the plugin in a process of its own, which has the home of an Airflow that runs."""
    env = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run([sys.executable, "-c", LIST], env=env, capture_output=True, text=True, timeout=180, check=True)
    return [Address(method, _filled(path)) for method, path in json.loads(ran.stdout.splitlines()[-1])]


def _filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    assert "{" not in path, f"{path} has a parameter that {__name__} does not know"
    return path


def status_of(api: AirflowApi, address: Address, *, body: object = None, **headers: str) -> int:
    """As one asks who is not logged in, but for the headers that are given."""
    return answer_of(api, address, body=body, **headers)[0]


def answer_of(
    api: AirflowApi, address: Address, *, body: object = None, **headers: str
) -> tuple[int, Mapping[str, str]]:
    """The same, with the headers of the answer, in small letters."""
    data = None if address.method == "GET" else json.dumps(body or {}).encode()
    more = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(api.url + address.path, data, more, method=address.method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return int(answer.status), _lowered(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, _lowered(error.headers)


def _lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def cookie_of(api: AirflowApi) -> Mapping[str, str]:
    """What a browser sends in which this person is logged in."""
    return {"Cookie": f"_token={api.access_token()}"}
