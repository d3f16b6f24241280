"""pymongo's client and sessions as the application gets them: pymongo's own, but for what must not pass by the mode.

The migrated databases are the application's, by whichever way they are asked for; a transaction is committed, and a database
dropped, as a write under the mode of then. Everything else is inherited.
"""

from __future__ import annotations

from typing import Any

from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.client_session import ClientSession

from docferry.ports.client import ApplicationDatabase


class ApplicationSession(ClientSession):
    """A session whose transactions end by the mode."""

    application: ApplicationDatabase

    def start_transaction(self, *arguments: Any, **options: Any) -> Any:
        begun = super().start_transaction(*arguments, **options)
        self.application.transaction_begun(self)
        return begun

    def commit_transaction(self) -> None:
        self.application.commit_transaction(self, super().commit_transaction)


class AsyncApplicationSession(AsyncClientSession):
    """A session whose transactions end by the mode."""

    application: ApplicationDatabase

    async def start_transaction(self, *arguments: Any, **options: Any) -> Any:
        begun = await super().start_transaction(*arguments, **options)
        self.application.transaction_begun(self)
        return begun

    async def commit_transaction(self) -> None:
        await self.application.commit_transaction(self, super().commit_transaction)


class _Application:
    """What both clients answer differently from pymongo's."""

    application: ApplicationDatabase | None = None
    _session: type

    def _ours(self, name: Any) -> bool:
        return self.application is not None and name in self.application.databases

    def __getitem__(self, name: str) -> Any:
        if self.application is not None and self._ours(name):
            return self.application.in_database(name)
        return super().__getitem__(name)  # type: ignore[misc]

    def get_database(self, name: str | None = None, *arguments: Any, **options: Any) -> Any:
        found = super().get_database(name, *arguments, **options)  # type: ignore[misc]
        return self._in_place_of(found, arguments, options)

    def get_default_database(self, default: str | None = None, *arguments: Any, **options: Any) -> Any:
        found = super().get_default_database(default, *arguments, **options)  # type: ignore[misc]
        return self._in_place_of(found, arguments, options)

    def _in_place_of(self, found: Any, arguments: Any, options: Any) -> Any:
        if self.application is None or not self._ours(found.name):
            return found
        return self.application.in_database(found.name).with_options(*arguments, **options)

    def start_session(self, *arguments: Any, **options: Any) -> Any:
        found = super().start_session(*arguments, **options)  # type: ignore[misc]
        if self.application is not None:
            self.application.session_begun(found)
            found.__class__ = self._session  # pymongo makes sessions of no other class
            found.application = self.application
        return found

    def drop_database(self, name_or_database: Any, *arguments: Any, **options: Any) -> Any:
        name = getattr(name_or_database, "name", name_or_database)
        call = super().drop_database  # type: ignore[misc]
        if self.application is None or not self._ours(name):
            return call(name_or_database, *arguments, **options)
        return self.application.whole("drop_database", call, name, *arguments, **options)

    def bulk_write(self, *arguments: Any, **options: Any) -> Any:
        call = super().bulk_write  # type: ignore[misc]
        if self.application is None:
            return call(*arguments, **options)
        return self.application.whole("bulk_write", call, *arguments, **options)

    def close(self) -> Any:
        """Leaves the migration, too."""
        application, self.application = self.application, None
        return application.close() if application is not None else super().close()  # type: ignore[misc]


class ApplicationClient(_Application, MongoClient[Any]):
    """For a synchronous application."""

    _session = ApplicationSession


class AsyncApplicationClient(_Application, AsyncMongoClient[Any]):
    """For an asynchronous application."""

    _session = AsyncApplicationSession
