"""The items of one document: read in one call, and put under the rules of versions."""
