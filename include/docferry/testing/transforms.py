"""A property test for a transform of your own. Needs hypothesis: pip install 'docferry[testing]'."""

from __future__ import annotations

import bson
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import same_content
from docferry.errors import TransformFailed
from docferry.testing.strategies import documents_for
from docferry.testing.strategies.kinds import Document


def assert_comes_back(
    mapping: DocumentMapping, documents: SearchStrategy[Document] | None = None, examples: int = 200
) -> None:
    """Whether each document, as items and read back, is the document again.

    `documents` are as your application has them; without it they are whatever the mapping can be given, of every BSON type.
    Raises: AssertionError, with the smallest document that does not come back.
    """

    @settings(max_examples=examples, deadline=None)
    @given(documents_for(mapping) if documents is None else documents)
    def each(document: Document) -> None:
        try:
            items = mapping.encode(document, 1)
        except TransformFailed as error:
            raise AssertionError(f"{error}: {document}") from error
        one, other = (
            bson.encode(each, codec_options=BSON_OPTIONS) for each in (mapping.decode(items).document, document)
        )
        assert same_content(one, other, ordered=mapping.keeps_order)

    each()
