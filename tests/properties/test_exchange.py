"""The Diffie-Hellman exchange, judged by Python's `pow`: numbers of every length, and texts in every spelling."""

import contextlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ibkr_oauth import DHParameters, LiveSessionTokenError

GROUP = DHParameters.rfc7919()
P = GROUP.prime
Q = (P - 1) // 2  # prime: the order of the squares
EXPONENT = st.integers(2, 2**256 - 1)
#: Numbers whose squares, the shared secrets, have every length in bytes and either parity of hex digits.
ROOT = st.integers(4, 1023).flatmap(lambda bits: st.integers(2 ** (bits - 1), 2**bits - 1))


def java_bytes(number: int) -> bytes:
    """BigInteger.toByteArray: a zero byte leads where the top bit would say "negative"."""
    digits = f"{number:x}"
    data = bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")
    return b"\0" + data if data[0] & 0x80 else data


@given(EXPONENT, EXPONENT)
def test_both_sides_agree(ours: int, theirs: int) -> None:
    exchange = GROUP.exchange(ours)
    assert exchange.challenge == f"{pow(2, ours, P):x}"
    shared = exchange.finish(f"{pow(2, theirs, P):x}")
    assert shared.reveal() == java_bytes(pow(2, ours * theirs, P))


@given(EXPONENT, ROOT)
@example(3, 4)  # one byte
@example(5, 11)  # one hex digit less
@example(7, 12)  # 0x90: one byte, and its sign
@example(2**255, 2**1022)
def test_every_length_of_the_shared_secret(ours: int, root: int) -> None:
    """The server's half is chosen so that the secret is the square of `root`."""
    shared = root * root
    theirs = pow(shared, pow(ours, -1, Q), P)
    assert GROUP.exchange(ours).finish(f"{theirs:x}").reveal() == java_bytes(shared)


def test_the_squares_have_every_shape() -> None:
    """Of what the test above is about: lengths from 1 to 256 bytes, with a sign byte and without, odd and even digits."""
    squares = [(2**bits - 1) ** 2 for bits in range(2, 1024)] + [(2**bits + 1) ** 2 for bits in range(1, 1023)]
    lengths = {(number.bit_length() + 7) // 8 for number in squares}
    assert lengths == set(range(1, 257))
    assert {number.bit_length() % 8 for number in squares} == set(range(8))


@given(EXPONENT, EXPONENT, st.integers(0, 8), st.booleans())
def test_spellings_of_the_servers_half(ours: int, theirs: int, zeros: int, upper: bool) -> None:
    """Upper case, and zeros in front: services print numbers in many ways."""
    half = pow(2, theirs, P)
    text = "0" * zeros + f"{half:x}"
    shared = GROUP.exchange(ours).finish(text.upper() if upper else text)
    assert shared.reveal() == java_bytes(pow(half, ours, P))


@pytest.mark.parametrize("half", [0, 1, P - 1, P, P + 1, P + 2, 2**2049])
@given(ours=EXPONENT)
def test_halves_that_prove_nothing(half: int, ours: int) -> None:
    """With them the secret would be known to everybody, or the number is none of the group's."""
    with pytest.raises(LiveSessionTokenError):
        GROUP.exchange(ours).finish(f"{half:x}")


@given(
    st.text(string.hexdigits + "gxX-+ _\n\0é", max_size=20).filter(lambda text: not set(text) <= set(string.hexdigits))
)
def test_halves_that_are_no_hex(text: str) -> None:
    with pytest.raises(LiveSessionTokenError) as caught:
        GROUP.exchange(3).finish(text)
    assert text not in caught.value.message or len(text) < 3


@given(EXPONENT, st.sampled_from(["2", "1", "zz", f"{P:x}"]))
def test_an_exchange_is_used_once(ours: int, first: str) -> None:
    """Whether it went well or not."""
    exchange = GROUP.exchange(ours)
    with contextlib.suppress(LiveSessionTokenError):
        exchange.finish(first)
    with pytest.raises(Exception, match=r"used|once|finished"):
        exchange.finish("2")
