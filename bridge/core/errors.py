"""The error tree, named for what the caller must do.

BridgeError
├── RequestRefused      change the request; sending it again as it is will not help
├── NotVerified         prove who you are; the reason is for the operator alone
├── PostUnderWay        try again in a moment; nothing can be decided about the run just now
├── CrewUnreachable     try again later; the crew API did not answer a question that the decision depends on
├── StoreUnavailable    try again later; nothing was stored, or the write is unconfirmed
│   └── StoreMisconfigured  change the database's settings; until then it cannot be used
├── StoreBroken         end this process at once; a fresh one finds out what the store still holds
├── StoreDamaged        stop and restore the store; going on could start a paid run twice
│   └── StoreReplaced   put the store's file back; what was written since may be gone with this process
├── StoreInUse          another process holds the store; only one may
├── ProcessBuried       let go of all that you follow and go on under another name; others work on it already
├── Stale               another process or an operator wrote this row; discard your decision
├── ExecutionTaken      this execution belongs to another run; yours is not known
└── IllegalTransition   a bug: this arrow is not in the table

The world's answers (an HTTP code, a broken connection) are not errors but values: see `core.responses`.
"""

from typing import Literal

RefusalCode = Literal[
    "invalid_json",
    "invalid_request",
    "unknown_crew",
    "missing_inputs",
    "too_large",
    "idempotency_conflict",
    "reply_to_not_allowed",
    "callback_not_allowed",
    "unknown_run",
    "unknown_delivery",
    "not_waiting",
    "not_in_doubt",
    "unknown_execution",
    "run_is_over",
    "internal",
]


class BridgeError(Exception):
    """Anything that the bridge itself raises."""


class RequestRefused(BridgeError):
    """A request that cannot be accepted: a stable `code`, a sentence for a person, and the `field` it is about."""

    def __init__(self, code: RefusalCode, detail: str, field: str | None = None) -> None:
        """`field` is a dotted path into the request's body, such as `inputs` or `meta.order`."""
        super().__init__(detail)
        self.code: RefusalCode = code
        self.detail = detail
        self.field = field


class NotVerified(BridgeError):
    """A webhook whose sender is not proved; the text says why, and is not for the sender."""


class PostUnderWay(BridgeError):
    """A POST to the crew is under way for this run, and its answer must be waited for."""

    def __init__(self, run_id: str) -> None:
        """`run_id`: of the run."""
        super().__init__("a POST to the crew is under way for this run")
        self.run_id = run_id


class CrewUnreachable(BridgeError):
    """The crew API did not answer a question that the decision depends on; nothing was changed."""


class StoreUnavailable(BridgeError):
    """The store cannot be written or read at this moment; nothing was changed."""


class StoreMisconfigured(StoreUnavailable):
    """The database has properties that the bridge cannot work with; the text says which, and what to change."""


class StoreBroken(BridgeError):
    """The database reported an I/O error; what this process believes of it can no longer be trusted."""


class StoreDamaged(BridgeError):
    """The store's content is not sound; it must be restored before the bridge may run."""


class StoreReplaced(StoreDamaged):
    """A file of the store was removed or replaced while this process used it."""


class StoreInUse(BridgeError):
    """Another process holds this store; a SQLite store belongs to one process at a time."""


class ProcessExpired(BridgeError):
    """The process was silent for so long that its rows were given to others."""


class Stale(BridgeError):
    """The row changed since it was read: another process or an operator owns the decision now."""


class ExecutionTaken(BridgeError):
    """Another run of the crew has this kickoff id already, so it cannot be this run's execution."""


class IllegalTransition(BridgeError):
    """A run was asked to move along an arrow that the table does not have."""
