"""Whose AWS account the credentials are of, against the one that the file names."""

from __future__ import annotations

from botocore.config import Config
from botocore.session import Session

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call
from docferry.errors import PreflightFailed, Problem

_CALL = Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=5, read_timeout=10)


def require_account(session: Session, account: str, region: str) -> None:
    """Ask STS who we are; every identity may ask that.

    Raises: PreflightFailed, if the credentials are another account's; StoreError, if STS does not answer.
    """
    sts = aws_client(session.create_client, "sts", region_name=region, config=_CALL)
    found = str(call(sts.get_caller_identity)["Account"])
    if found != account:
        what = f"is {account}, and the credentials are of account {found}; nothing was asked of it, and nothing changed"
        advice = "use credentials of that account, or correct the file"
        raise PreflightFailed("the AWS account", [Problem(where="target.account", what=what, suggestion=advice)])
