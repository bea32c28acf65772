"""Strict parsing of untrusted JSON: any input gives a value or a refusal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import RequestRefused
from bridge.core.json import MAX_DEPTH, canonical, parse, parse_object

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int) -> bytes:
    """An object that is `depth` levels deep, including the outermost one."""
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' {"a": [1, 2.5, null, true, "x"]} \n', {"a": [1, 2.5, None, True, "x"]}),
        ('{"größe": "🦉"}'.encode(), {"größe": "🦉"}),
        (rb'{"no NUL": "\\u0000", "nor this": "\\\\u0000"}', {"no NUL": r"\u0000", "nor this": r"\\u0000"}),
        (rb'{"pair": "\ud83e\udd89"}', {"pair": "🦉"}),
        (b'{"big": 123456789012345678901234567890}', {"big": 123456789012345678901234567890}),
        (b'{"a": {"k": 1}, "b": {"k": 1}}', {"a": {"k": 1}, "b": {"k": 1}}),
    ],
)
def test_a_valid_object_is_read(body: bytes, value: Any):
    assert parse_object(body) == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"\xef\xbb\xbf" * 2 + b"{}", "not JSON"),
        (b"{", "not JSON"),
        (b"{'a': 1}", "line 1 column 2"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": Infinity}', "Infinity is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1, "a": 2}', "appears twice"),
        (b'{"o": {"a": 1, "a": 1}}', "appears twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (rb'{"a": "\ud800"}', "lone surrogate"),
        (rb'{"\udc00": 1}', "lone surrogate"),
        (rb'{"a": "\u0000"}', "NUL"),
        (rb'{"a": ["x\\\u0000"]}', "NUL"),
        (rb'{"k\u0000": 1}', "NUL"),
        (b'{"a": "\x00"}', "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "thousands of digits"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
        (b'{"a":' + b"[" * 100_000, "nested deeper"),
    ],
)
def test_invalid_json_is_refused(body: bytes, said: str):
    with pytest.raises(RequestRefused, match=said) as caught:
        parse_object(body)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    "digits",
    [
        "0.12345678901234567890", "12345678901234567890.5", "9007199254740993.0", "1e-400", "2e-324", "1.2345678e-320",
        "-0.12345678901234567890", "1e-9999999999999999999999", "1180591620717411303424.0",
        "0.1000000000000000055511151231257827021181583404541015625",
    ],
)  # fmt: skip
def test_a_number_with_more_digits_than_a_double_keeps_is_refused(digits: str):
    with pytest.raises(RequestRefused, match="as text"):
        parse(f"[{digits}]".encode())


@pytest.mark.parametrize(
    "digits",
    [
        "0.1", "1.10", "1E5", "1e22", "1e23", "5e-324", "0.0", "-0.0", "0e-9", "0.000000000000000000000",
        "0.30000000000000004", "0.10000000000000001", "1.7976931348623157e308", "2.2250738585072014e-308",
        "100000000000000000000000000000000000.0",
    ],
)  # fmt: skip
def test_a_number_in_a_form_of_its_double_is_accepted(digits: str):
    assert parse(f"[{digits}]".encode()) == [float(digits)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_accepted_in_its_usual_forms(number: float):
    assert parse(f"[{number!r}, {number:.16e}]".encode()) == [number, number]


@pytest.mark.parametrize("body", [b'{"a": 1e999}', b'{"a": [-1e999]}'])
def test_a_number_out_of_range_is_refused(body: bytes):
    """`1e999` becomes infinity, which would be serialized as `Infinity`, which is not JSON."""
    with pytest.raises(RequestRefused) as caught:
        parse_object(body)
    assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_another_json_type_is_an_invalid_request(body: bytes):
    with pytest.raises(RequestRefused) as caught:
        parse_object(body)
    assert caught.value.code == "invalid_request"


def test_nesting_is_allowed_up_to_the_limit():
    assert parse_object(nested(MAX_DEPTH - 1))


def test_a_repeated_key_is_named():
    with pytest.raises(RequestRefused) as caught:
        parse_object(b'{"twice": 1, "twice": 1}')
    assert caught.value.field == "twice"


def test_canonical_json_is_sorted_compact_and_utf_8():
    assert canonical({"b": [1, {"d": None, "c": "é"}], "a": 2}) == '{"a":2,"b":[1,{"c":"é","d":null}]}'.encode()


@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]",:\\u0d8-e19NanIfty '), max_size=30).map(str.encode))
def test_any_bytes_give_an_object_or_a_refusal(body: bytes):
    try:
        assert isinstance(parse_object(body), dict)
    except RequestRefused as refusal:
        assert refusal.code in {"invalid_json", "invalid_request"}  # noqa: PT017 - both outcomes are fine


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_serialized_values_are_read_back_unchanged(value: dict[str, Any]):
    assert parse_object(canonical(value)) == value
    assert canonical(parse_object(json.dumps(value, indent=1).encode())) == canonical(value)


MIB = 1024 * 1024
BOMBS = {
    "deep arrays": b"[" * (MIB // 2) + b"]" * (MIB // 2),
    "deep objects": b'{"":' * (MIB // 5) + b"1" + b"}" * (MIB // 5),
    "many, at the permitted depth": b"[" + b",".join([b"[" * 60 + b"]" * 60] * (MIB // 121)) + b"]",
    "many side by side": b"[" + b",".join([b"{}"] * (MIB // 3)) + b"]",
    "behind an unclosed string of quotes": b"[" * (MIB // 2) + b'"' + rb"\"" * (MIB // 4),
}


@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
def test_a_body_of_mostly_brackets_is_refused_before_parsing(body: bytes, monkeypatch: pytest.MonkeyPatch):
    """Such a body of 1 MiB blocked the event loop for 0.3 to 0.6 s."""
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(RequestRefused, match="little but brackets"):
        parse_object(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([[12.5, index] for index in range(100_000)]).encode(),
        json.dumps([{"id": index} for index in range(80_000)]).encode(),
        json.dumps({"text": "[{" * 200_000}).encode(),
        json.dumps({"text": json.dumps([[]] * 100_000)}).encode(),
        json.dumps([[]] * 15_000).encode(),
    ],
    ids=["coordinates", "rows", "brackets in a text", "JSON in a text", "small"],
)
def test_bodies_with_content_between_brackets_are_read(body: bytes):
    assert parse(body) == json.loads(body)


def test_a_small_body_nested_too_deep_for_the_parser_is_refused():
    with pytest.raises(RequestRefused, match="nested deeper than 64 levels"):
        parse_object(b"[" * 15_000 + b"]" * 15_000)
