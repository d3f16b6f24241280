"""For tests of migrations, docferry's own and yours: fakes behind the ports, and hypothesis strategies.

from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.strategies import documents_for      # needs hypothesis: pip install 'docferry[testing]'
"""
