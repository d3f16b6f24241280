"""Every error docferry raises, in one tree. Retryability belongs to the type, never to the call site.

MigrationError(retryable=False)
├ ConfigError(problems)
├ DocumentError(namespace, id, path)        dead-lettered and counted; the run fails above a threshold
│  ├ UnsupportedType · UnmappedField · TooDeep · ItemTooLarge
│  ├ KeyNotRepresentable · KeyTooLong · KeyCollision · ImagesLost · RefusedByStore · Unforeseen · TransformFailed
│  ├ OutsideFilter · FilterUndecided · FilterCrossed       of a collection of which a part is migrated
│  └ DuplicateKey · TornDocument · ItemsUnreadable        on the way back to MongoDB
├ StoreError(operation, code)               adapters only, raise … from
│  ├ TransientStoreError(retryable=True)    Unavailable · TimedOut · IteratorExpired
│  │  └ Throttled                           ControlPlaneBusy
│  └ PermanentStoreError                    AccessDenied · TableMissing · ConditionFailed · RequestRefused
│     └ WritesFenced · StreamTrimmed · QuotaUsedUp
├ PreflightFailed(problems)                 what only the server knows says no
├ EstateDrift(differences)                  a table is not what the file says, and may not be changed unasked
├ LeaseHeld(name, holder) · LeaseLost(name)
├ ResumeTokenLost                           the oplog no longer holds the position: backfill again
├ StreamEnded(reason, collections)          drop, rename, dropDatabase, invalidate, images missing: backfill again
├ NotApplied(left, within_s)                MongoDB does not hold yet what DynamoDB does
├ HoldFailed(steps)                         the leader was not changed, and everything is as it was
├ DrillFailed(command, code)                a command of a rehearsal failed
├ FenceFailed(in_the_way)                   MongoDB's fence was not up by the deadline
├ FenceBroken(strays)                       a client wrote to MongoDB behind the fence
├ RetryExhausted(attempts, elapsed_s)       cause chained
├ TooManyDeadLetters(collection, share)
├ ValidationFailed(summary)
├ PointFailed(point, why)                   a rollback point could not be made; nothing lists as one
├ SteppedBack(why, mode, examples)          flipped reads went past a bound, and the mode is again what it was
├ JournalBroken                             the journal of writes lacks entries: it does not prove the way back
├ MoveRefused                               the mode cannot become that one from here
├ WritesHeld                                writes waited for a change of the leader that did not end in time
├ KeyTaken(collection, key)             while DynamoDB leads: the key belongs to another document
├ TornRead                              a document's items do not fit together: MongoDB has it whole
├ LeaderUnknown                             this process may not write: it does not know which database leads
│  └ WriteUnconfirmed                       MongoDB has the write, and may not have led when it was made
├ MembershipBroken                          this process may not write: an unforeseen error keeps it from following the mode
├ InstanceStruck                            this process was struck off; it registers anew, and the call is made again
├ CallRefused(what, suggestion)             the client cannot do this call, or not in this mode
│  ├ NoAccessPattern                        no key and no index leads to what a query asks for
│  └ ScanTooLarge                           a scan has used up what the file allows it
├ DocumentNotFound                          nothing is there to be updated; nothing was written
├ NotAsExpected                             the document is not as the write expects it; nothing was written
├ UpdateRefused(code)                       the write error that MongoDB gives for the same update
│  └ ExpressionRefused                      the error that MongoDB gives for evaluating the same expression
├ Stopped                                   asked to stop; a re-run continues
└ InvariantBroken                           our bug; never caught

No error carries a document body. Each one survives pickling, because Airflow moves errors between processes.
"""

from docferry.errors.base import (
    ConfigError,
    InvariantBroken,
    MigrationError,
    PreflightFailed,
    Problem,
    RetryExhausted,
    Stopped,
)
from docferry.errors.calls import (
    CallRefused,
    DocumentNotFound,
    ExpressionRefused,
    InstanceStruck,
    KeyTaken,
    LeaderUnknown,
    MembershipBroken,
    NoAccessPattern,
    NotAsExpected,
    ScanTooLarge,
    TornRead,
    UpdateRefused,
    WritesHeld,
    WriteUnconfirmed,
)
from docferry.errors.documents import (
    DocumentError,
    DuplicateKey,
    FilterCrossed,
    FilterUndecided,
    ImagesLost,
    ItemsUnreadable,
    ItemTooLarge,
    KeyCollision,
    KeyNotRepresentable,
    KeyTooLong,
    OutsideFilter,
    RefusedByStore,
    TooDeep,
    TornDocument,
    TransformFailed,
    Unforeseen,
    UnmappedField,
    UnsupportedType,
)
from docferry.errors.phases import (
    DrillFailed,
    EstateDrift,
    FenceBroken,
    FenceFailed,
    HoldFailed,
    JournalBroken,
    LeaseHeld,
    LeaseLost,
    MoveRefused,
    NotApplied,
    PointFailed,
    ResumeTokenLost,
    SteppedBack,
    StreamEnded,
    TooManyDeadLetters,
    ValidationFailed,
)
from docferry.errors.stores import (
    AccessDenied,
    ConditionFailed,
    ControlPlaneBusy,
    IteratorExpired,
    PermanentStoreError,
    QuotaUsedUp,
    RequestRefused,
    StoreError,
    StreamTrimmed,
    TableMissing,
    Throttled,
    TimedOut,
    TransientStoreError,
    Unavailable,
    WritesFenced,
)

__all__ = [
    "AccessDenied",
    "CallRefused",
    "ConditionFailed",
    "ConfigError",
    "ControlPlaneBusy",
    "DocumentError",
    "DocumentNotFound",
    "DrillFailed",
    "DuplicateKey",
    "EstateDrift",
    "ExpressionRefused",
    "FenceBroken",
    "FenceFailed",
    "FilterCrossed",
    "FilterUndecided",
    "HoldFailed",
    "ImagesLost",
    "InstanceStruck",
    "InvariantBroken",
    "ItemTooLarge",
    "ItemsUnreadable",
    "IteratorExpired",
    "JournalBroken",
    "KeyCollision",
    "KeyNotRepresentable",
    "KeyTaken",
    "KeyTooLong",
    "LeaderUnknown",
    "LeaseHeld",
    "LeaseLost",
    "MembershipBroken",
    "MigrationError",
    "MoveRefused",
    "NoAccessPattern",
    "NotApplied",
    "NotAsExpected",
    "OutsideFilter",
    "PermanentStoreError",
    "PointFailed",
    "PreflightFailed",
    "Problem",
    "QuotaUsedUp",
    "RefusedByStore",
    "RequestRefused",
    "ResumeTokenLost",
    "RetryExhausted",
    "ScanTooLarge",
    "SteppedBack",
    "Stopped",
    "StoreError",
    "StreamEnded",
    "StreamTrimmed",
    "TableMissing",
    "Throttled",
    "TimedOut",
    "TooDeep",
    "TooManyDeadLetters",
    "TornDocument",
    "TornRead",
    "TransformFailed",
    "TransientStoreError",
    "Unavailable",
    "Unforeseen",
    "UnmappedField",
    "UnsupportedType",
    "UpdateRefused",
    "ValidationFailed",
    "WriteUnconfirmed",
    "WritesFenced",
    "WritesHeld",
]
