"""Trace contexts that are derived from a run."""

import pytest

from bridge.core.runs import trace_context
from bridge.core.runs.request import parse_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled", "sent"), [("01", True, "01"), ("03", True, "01"), ("00", False, "00")])
def test_a_child_is_in_the_trace_of_its_parent_and_sampled_like_it(flags: str, sampled: bool, sent: str):
    context = f"00-{TRACE}-{PARENT}-{flags}"

    assert (trace_context.trace_id(context), trace_context.parent_id(context)) == (TRACE, PARENT)
    assert trace_context.is_sampled(context) is sampled
    assert trace_context.child(context, "0" * 15 + "1") == f"00-{TRACE}-000000000000000{1}-{sent}"


def test_the_context_of_a_later_version_is_continued_in_the_known_one():
    context = parse_traceparent(f"cc-{TRACE}-{PARENT}-01-what-comes-later")

    assert context is not None
    assert trace_context.child(context, PARENT) == f"00-{TRACE}-{PARENT}-01"


def test_derived_ids_are_stable_distinct_and_well_formed():
    spans = [
        trace_context.accept_span_id("run-1"),
        trace_context.kickoff_span_id("run-1", 1),
        trace_context.kickoff_span_id("run-1", 2),
        trace_context.delivery_span_id("run-1-succeeded-1", 1),
    ]
    trace_id = trace_context.derive_trace_id("run-1")

    assert len(set(spans)) == 4
    assert trace_id == trace_context.derive_trace_id("run-1") != trace_context.derive_trace_id("run-2")
    for span_id in spans:
        assert parse_traceparent(trace_context.traceparent(trace_id, span_id, trace_context.SAMPLED)) is not None


def test_log_lines_of_a_run_have_the_trace_id_of_its_context():
    assert trace_context.log_fields(f"00-{TRACE}-{PARENT}-01") == {"trace_id": TRACE}
    assert trace_context.log_fields(None) == {}
