"""A MongoDB connection as a URI with all its options: what the library and every driver take."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from airflow.providers.mongo.hooks.mongo import MongoHook
from airflow.sdk.log import mask_secret


class DocferryMongoHook(MongoHook):
    """The provider's hook, which also gives its connection away as one URI.

    :param mongo_conn_id: The connection: several hosts go into its host field (``a:27017,b:27017``), options such as
        ``replicaSet`` and ``authSource`` into its extra.
    """

    def get_uri_with_options(self) -> str:
        """The URI, options included. It holds the password: Airflow masks it in every log from here on."""
        options = dict(self.extras)
        if self.allow_insecure:
            options["tlsAllowInvalidCertificates"] = True
        separator = "?" if urlsplit(self.uri).path else "/?"
        query = "&".join(f"{name}={quote(_option_text(value), safe=':,')}" for name, value in options.items())
        uri = f"{self.uri}{separator}{query}" if query else self.uri
        mask_secret(uri)
        return uri


def _option_text(value: Any) -> str:
    """An option's value as MongoDB's connection string spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}:{_option_text(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ",".join(map(_option_text, value))
    return str(value)
