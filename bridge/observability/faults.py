"""How an unexpected exception is logged, wherever it is caught."""

import structlog

from bridge.core.runs.quarantine import Quarantined

log = structlog.get_logger()


def log_fault(kind: Quarantined, error: BaseException, /, **about: object) -> None:
    """Log it once, with its traceback; `processing.ReportFault` of a part that counts nothing."""
    log.error("item_quarantined", kind=kind.value, **about, exc_info=error)
