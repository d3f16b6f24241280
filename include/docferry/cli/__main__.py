"""`python -m docferry.cli` is `docferry`."""

from docferry.cli.start import main

if __name__ == "__main__":
    main()
