"""In-memory stand-ins for MongoDB and DynamoDB behind docferry's ports, and ways to make them misbehave.

They keep the rules that the real ones keep, as far as the ports promise them: a contract suite runs against both.
What they do not have is a network: nothing here is slow, lost or late unless a test asks for it.
"""

from docferry.testing.fakes.estate import FakeEstate
from docferry.testing.fakes.faults import Faults
from docferry.testing.fakes.feed import FakeFeed
from docferry.testing.fakes.fence import APP, OWN, FakeClients, FakeFence
from docferry.testing.fakes.journal import FakeJournal
from docferry.testing.fakes.leader import FakeLeader
from docferry.testing.fakes.ledger import FakeLedger
from docferry.testing.fakes.reverse import FakeSink, FakeStreams
from docferry.testing.fakes.source import FakeSource
from docferry.testing.fakes.target import FakeTarget

__all__ = [
    "APP",
    "OWN",
    "FakeClients",
    "FakeEstate",
    "FakeFeed",
    "FakeFence",
    "FakeJournal",
    "FakeLeader",
    "FakeLedger",
    "FakeSink",
    "FakeSource",
    "FakeStreams",
    "FakeTarget",
    "Faults",
]
