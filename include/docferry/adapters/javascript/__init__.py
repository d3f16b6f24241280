"""JavaScript and TypeScript, parsed by tree-sitter (the extra `analyze`). Nothing is run."""
