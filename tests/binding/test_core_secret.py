"""Secret: hides, compares, and takes only bytes."""

import array

import pytest

from ibkr_oauth import _core, errors

Secret = _core.Secret


@pytest.mark.parametrize("data", [b"", b"\0", b"abc", bytes(range(256)) * 256])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_reveal_gives_the_bytes_back(data, kind):
    secret = Secret(kind(data))
    assert secret.reveal() == data
    assert type(secret.reveal()) is bytes
    assert len(secret) == len(data)


def test_secret_is_a_copy():
    data = bytearray(b"wiped later")
    secret = Secret(data)
    data[:] = bytes(len(data))
    data.append(1)  # no buffer is held any more
    assert secret.reveal() == b"wiped later"


@pytest.mark.parametrize("value", ["text", None, 5, [1, 2], object()])
def test_other_types_are_refused(value):
    name = type(value).__name__
    with pytest.raises(TypeError, match=f"^data must be bytes, bytearray or memoryview, not {name}$"):
        Secret(value)


def test_scattered_memory_is_refused():
    with pytest.raises(BufferError):
        Secret(memoryview(b"abcdef")[::2])
    assert Secret(array.array("B", b"abc")).reveal() == b"abc"


def test_arguments_are_checked():
    for arguments, keywords in [((), {}), ((b"a", b"b"), {}), ((b"a",), {"other": 1})]:
        with pytest.raises(TypeError):
            Secret(*arguments, **keywords)
    assert Secret(data=b"a").reveal() == b"a"


def test_size_is_limited():
    with pytest.raises(errors.InvalidValue) as caught:
        Secret(bytes(65537))
    assert caught.value.code == "limit"


def test_repr_hides():
    assert repr(Secret(b"0123456789abcdefghij")) == "<Secret 20 bytes>"
    assert repr(Secret(b"x")) == "<Secret 1 byte>"
    assert f"{Secret(b'')}" == "<Secret 0 bytes>"


def test_equality_is_among_secrets_only():
    assert Secret(b"abc") == Secret(b"abc")
    assert (Secret(b"abc") != Secret(b"abc")) is False
    assert Secret(b"abc") != Secret(b"abd")
    assert Secret(b"abc") != Secret(b"abcd")
    assert Secret(b"") == Secret(b"")
    assert Secret(b"abc").__eq__(b"abc") is NotImplemented
    assert Secret(b"abc") != b"abc"
    assert Secret(b"abc") != "abc"


def test_no_order_and_no_hash():
    with pytest.raises(TypeError):
        _ = Secret(b"a") < Secret(b"b")
    assert Secret.__hash__ is None
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(b"a"))


def test_no_way_around_reveal():
    secret = Secret(b"abc")
    for way in (memoryview, iter, lambda s: s[0]):
        with pytest.raises(TypeError):
            way(secret)
    # bytes(object) counts a length up to zeros where there is no buffer; it must not get that far.
    with pytest.raises(TypeError):
        bytes(secret)


def test_base64():
    secret = Secret.from_base64("uB3F/ZuM5uKK51tyHhn8j5dNRfA=")
    assert secret.reveal().hex() == "b81dc5fd9b8ce6e28ae75b721e19fc8f974d45f0"
    assert secret.reveal_base64() == "uB3F/ZuM5uKK51tyHhn8j5dNRfA="
    assert Secret(b"").reveal_base64() == ""
    assert len(Secret(bytes(65536)).reveal_base64()) == 87384


@pytest.mark.parametrize("text", ["dG9wc2VjcmV0=", "dG9wc2VjcmV", "dG9w c2VjcmV0", "dG9w\nc2Vj", "dG9wc2VjcmU\0"])
def test_base64_is_strict_and_errors_do_not_show_it(text):
    with pytest.raises(errors.InvalidValue) as caught:
        Secret.from_base64(text, what="live session token")
    assert caught.value.code == "encoding"
    assert caught.value.message.startswith("live session token")
    assert "dG9w" not in str(caught.value)


def test_lone_surrogates_do_not_leak_the_text():
    with pytest.raises(errors.InvalidValue) as caught:
        Secret.from_base64("topsecret\ud800", "token")
    assert caught.value.message == "token has a lone surrogate"
    assert caught.value.code == "argument"
    assert caught.value.__context__ is None
    assert "topsecret" not in repr(vars(caught.value))


def test_what_is_a_plain_text():
    with pytest.raises(TypeError, match=r"^what must be str, not int$"):
        Secret.from_base64("", 5)
    with pytest.raises(TypeError, match="argument"):
        Secret.from_base64()
    with pytest.raises(errors.InvalidValue, match="what has a NUL character"):
        Secret.from_base64("", "a\0b")
    with pytest.raises(TypeError, match=r"^secret must be str, not bytes$"):
        Secret.from_base64(b"")


def test_copy_into_memory_that_can_be_wiped():
    secret = Secret(b"abc")
    target = bytearray(3)
    secret.copy_into(target)
    assert target == b"abc"
    Secret(b"").copy_into(bytearray())
    for wrong in (bytearray(2), bytearray(4)):
        with pytest.raises(ValueError, match="expected 3"):
            secret.copy_into(wrong)
        assert not any(wrong)
    for wrong in (b"abc", memoryview(b"abc"), 3, None):
        with pytest.raises(TypeError, match="writable"):
            secret.copy_into(wrong)
