"""The error tree, named for what the caller must do.

BridgeError
├── RequestRefused      change the request; the same request will be refused again
├── NotVerified         authenticate the sender; the reason is for the operator only
├── PostInProgress      retry in a moment; the run cannot be changed while its POST is in progress
├── CrewUnreachable     retry later; the crew API did not respond to a query that the decision depends on
├── BrokerUnavailable   retry later; the broker did not do what was asked
├── StoreUnavailable    retry later; nothing was stored, or the write is unconfirmed
│   └── StoreMisconfigured  change the settings of the database; it cannot be used as it is
├── StoreBroken         end this process at once; a new one rereads the store
├── StoreDamaged        stop and restore the store; continuing could start a paid run twice
│   └── StoreReplaced   put the file of the store back; writes since then may be lost with this process
├── StoreInUse          stop the other process, or use another store
├── ProcessExpired      stop tracking all runs and rejoin under a new name; others have claimed them
└── IllegalTransition   fix the bug: the state machine has no such transition

Responses of other systems (an HTTP status, a broken connection) are not errors but values (`core.crew.responses`), and
so are conflicts between writes (`ports.runs.Conflict`).
"""

from collections.abc import Mapping
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
    "ambiguous_run_id",
    "unknown_delivery",
    "not_discarded",
    "unknown_dead_letter",
    "not_replayed",
    "not_waiting",
    "not_in_doubt",
    "unknown_execution",
    "run_is_over",
    "run_not_ended",
    "internal",
]


class BridgeError(Exception):
    """The base class of all errors that the bridge raises."""


class RequestRefused(BridgeError):
    """A request cannot be accepted: a stable `code`, a sentence for people, and the `field` at fault."""

    def __init__(self, code: RefusalCode, detail: str, field: str | None = None) -> None:
        """`field` is a dotted path into the request's body, such as `inputs` or `meta.order`."""
        super().__init__(detail)
        self.code: RefusalCode = code
        self.detail = detail
        self.field = field


class NotVerified(BridgeError):
    """The sender of a webhook is not authenticated; the message says why, and is not for the sender."""


class PostInProgress(BridgeError):
    """A POST to the crew is in progress for this run, and its response must be awaited."""

    def __init__(self, run_id: str, log_fields: Mapping[str, str]) -> None:
        """Name the run; `log_fields` identify it in a log line."""
        super().__init__("a POST to the crew is in progress for this run; retry in a moment")
        self.run_id = run_id
        self.log_fields = log_fields


class CrewUnreachable(BridgeError):
    """The crew API did not respond to a query that the decision depends on; nothing was changed."""


class BrokerUnavailable(BridgeError):
    """The broker cannot be reached, or refused what was asked; the message says why, without a secret."""


class StoreUnavailable(BridgeError):
    """The store cannot be written or read at the moment; nothing was changed, or the write is unconfirmed."""


class StoreMisconfigured(StoreUnavailable):
    """The database is configured in a way that the bridge cannot use; the message says what to change."""


class StoreBroken(BridgeError):
    """The database reported an I/O error; this process can no longer rely on what it knows of the content."""


class StoreDamaged(BridgeError):
    """The content of the store is inconsistent; restore it before the bridge runs again."""


class StoreReplaced(StoreDamaged):
    """A file of the store was removed, replaced, truncated, or overwritten while this process used it."""


FATAL = (StoreBroken, StoreDamaged)
"""Errors after which the process must end, because its store is no longer reliable; the next process starts afresh."""


class StoreInUse(BridgeError):
    """Another process uses this store; a SQLite store belongs to one process at a time."""


class ProcessExpired(BridgeError):
    """Another process has expired this one, which sent no heartbeat for too long, and released its rows."""


class IllegalTransition(BridgeError):
    """The state machine has no such transition."""
