"""The server's time as its answers tell it, against a server whose time is known."""

from email.utils import formatdate, parsedate_to_datetime

from hypothesis import given
from hypothesis import strategies as st
from support.fake_clock import START, FakeClock

from ibkr_oauth.clock import ServerClock, parse_date

SECONDS = st.floats(0, 100, allow_subnormal=False)


@given(
    st.floats(-1e6, 1e6),
    st.lists(st.tuples(SECONDS, st.floats(0, 3), st.floats(0, 3), st.floats(-1e5, 1e5)), min_size=1, max_size=12),
)
def test_the_time_is_right_whatever_happens_to_this_computers(
    skew: float, answers: list[tuple[float, float, float, float]]
) -> None:
    """Each answer: the rest before it, its way there and back, and a jump of the wall clock meanwhile.

    The Date is cut to whole seconds and made when the request arrives, so half a second and the way back are all that
    one reading can be off; the noise that is left alone adds two seconds and a way at most.
    """
    clock = FakeClock()
    server = ServerClock(clock)
    true_offset = START + skew - clock.steady()
    for rest, there, back, jump in answers:
        clock.advance(rest)
        sent = clock.steady()
        clock.advance(there)
        date = formatdate(int(clock.steady() + true_offset), usegmt=True)
        clock.advance(back)
        clock.jump(jump)
        server.observe(date, sent)
        off = server.now() - (clock.steady() + true_offset)
        assert -0.5 - 3 - 2 - 1e-3 <= off <= 0.5 + 2 + 6 + 1e-3
    assert abs(clock.time() - server.now() - server.skew) <= 2.0


@given(st.floats(2.6, 1e6), st.booleans())
def test_a_wrong_clock_is_known_after_one_answer(skew: float, behind: bool) -> None:
    """To the second, and to nobody's surprise below two."""
    clock = FakeClock()
    server = ServerClock(clock)
    ahead = -skew if behind else skew
    assert server.observe(formatdate(int(clock.time() - ahead), usegmt=True), clock.steady())
    assert abs(server.skew - ahead) <= 0.5 + 1e-3


@given(st.floats(0, 1.4), st.booleans())
def test_a_small_difference_is_none(skew: float, behind: bool) -> None:
    clock = FakeClock(START + 0.5)
    server = ServerClock(clock)
    server.observe(formatdate(int(START + (skew if behind else -skew)), usegmt=True))
    assert server.skew == 0


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d\d (Jan|Feb|Dec) \d{4} \d\d:\d\d:\d\d (GMT|UTC|CET)"))
def test_dates_are_read_as_the_standard_library_reads_them(header: str) -> None:
    """Where ours reads one at all: it takes one form, and theirs takes many."""
    ours = parse_date(header)
    if ours is not None:
        assert header.rstrip().endswith("GMT")
        assert abs(parsedate_to_datetime(header.replace(":60 ", ":59 ")).timestamp() - ours) <= 40
