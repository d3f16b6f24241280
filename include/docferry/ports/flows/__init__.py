"""What flows and client ask of the outside world. `wiring` puts adapters behind these; tests put fakes.

Each protocol is one conversation: `Source` (MongoDB, for reading), `Fence`, `LeaderMarker` and `Clients` (who may write
there, who leads, and who does),
`Target` (DynamoDB's data plane), on the way back `Streams` (DynamoDB's changes) and `Sink` (MongoDB, for writing), `Ledger`,
`Estate` (AWS's control plane), `PartObjects` and `ImportRows` (in S3), `Progress` and `StopSignal` (the caller of a flow).
"""

from docferry.ports.flows.estate import Estate
from docferry.ports.flows.fence import Clients, Fence
from docferry.ports.flows.import_rows import ImportRows
from docferry.ports.flows.journal import Journal
from docferry.ports.flows.leader import LeaderMarker
from docferry.ports.flows.ledger import Ledger, Record
from docferry.ports.flows.part_objects import PartObjects
from docferry.ports.flows.reverse import Shard, Sink, StreamFacts, StreamPage, StreamRecord, Streams
from docferry.ports.flows.running import Identity, Progress, StopSignal
from docferry.ports.flows.source import (
    Batch,
    Bounds,
    ChangeEvent,
    Feed,
    MemberFacts,
    OthersBatch,
    OthersFeed,
    OthersWrite,
    ServerFacts,
    Source,
    SourceCatalog,
    SourceFacts,
    StreamPosition,
)
from docferry.ports.flows.target import (
    Budget,
    Grave,
    Guard,
    ItemPart,
    Packed,
    PartsPage,
    SpentUnits,
    Target,
    TargetPage,
    Unanswered,
    Written,
)

__all__ = [
    "Batch",
    "Bounds",
    "Budget",
    "ChangeEvent",
    "Clients",
    "Estate",
    "Feed",
    "Fence",
    "Grave",
    "Guard",
    "Identity",
    "ImportRows",
    "ItemPart",
    "Journal",
    "LeaderMarker",
    "Ledger",
    "MemberFacts",
    "OthersBatch",
    "OthersFeed",
    "OthersWrite",
    "Packed",
    "PartObjects",
    "PartsPage",
    "Progress",
    "Record",
    "ServerFacts",
    "Shard",
    "Sink",
    "Source",
    "SourceCatalog",
    "SourceFacts",
    "SpentUnits",
    "StopSignal",
    "StreamFacts",
    "StreamPage",
    "StreamPosition",
    "StreamRecord",
    "Streams",
    "Target",
    "TargetPage",
    "Unanswered",
    "Written",
]
