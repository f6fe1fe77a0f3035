"""Header lines of answers, against the standard library's parser."""

import io
from http.client import parse_headers

from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth import _core

NAMES = st.text("Aa-bZz09!#$%&'*+.^_`|~", min_size=1, max_size=12) | st.sampled_from(["Date", "date", "Set-Cookie"])
# Latin-1 without controls: at some of them the standard library ends a line.
VALUES = st.text([chr(code) for code in (*range(0x20, 0x7F), *range(0xA1, 0x100))], max_size=40).map(
    lambda value: value.strip(" ")
)
SPACE = st.text(" \t", max_size=3)


@given(st.lists(st.tuples(NAMES, SPACE, VALUES, SPACE), max_size=20), st.sampled_from(["\r\n", "\n"]))
def test_lines_are_read_as_the_standard_library_reads_them(headers: list[tuple[str, str, str, str]], end: str) -> None:
    text = "".join(f"{name}:{before}{value}{behind}{end}" for name, before, value, behind in headers)
    lines = f"{text}{end}".encode("latin-1")
    theirs = parse_headers(io.BytesIO(lines))
    assert _core.header_pairs(lines) == [(name, value.rstrip(" \t")) for name, value in theirs.items()]
    for name, *_ in headers:
        expected = [value.rstrip(" \t") for value in theirs.get_all(name, [])]
        assert _core.header_values(lines, name) == expected
        assert _core.header_values(lines, name.swapcase()) == expected
