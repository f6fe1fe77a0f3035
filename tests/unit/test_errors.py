"""The tree of errors: complete, picklable, with advice, and the same in words and in code."""

import pickle
import re

import pytest

import ibkr_oauth
from ibkr_oauth import _core, errors
from ibkr_oauth.errors import IBKROAuthError, InvalidValue, RateLimited, Timeout

CLASSES = [getattr(errors, name) for name in errors.__all__]


def test_the_docstring_names_every_class() -> None:
    assert errors.__doc__
    named = re.findall(r"[├└]─ (\w+)|^    (IBKROAuthError)", errors.__doc__, re.MULTILINE)
    assert sorted(a or b for a, b in named) == sorted(errors.__all__)
    assert sorted(errors.__all__) == sorted(kind.__name__ for kind in CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_advice_a_code_and_survives_pickling(kind: type[IBKROAuthError]) -> None:
    assert issubclass(kind, IBKROAuthError)
    error = kind("it broke", status=401, body="text", method="GET", url="https://host/path", where="f", native="curl 7")
    assert error.advice.endswith((".", "code"))
    assert re.fullmatch(r"[a-z_]+", error.code)
    assert str(error) == f"it broke\n{error.advice}"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.__dict__ == error.__dict__
    assert str(again) == str(error)


def test_codes_are_distinct() -> None:
    codes = [kind.default_code for kind in CLASSES]
    assert len(set(codes)) == len(codes)


def test_builtin_relatives() -> None:
    assert issubclass(Timeout, TimeoutError)
    assert issubclass(InvalidValue, ValueError)
    limited = RateLimited("slow")
    limited.retry_after = 3.0
    assert pickle.loads(pickle.dumps(limited)).retry_after == 3.0


def test_every_code_of_the_core_has_a_class(project: object) -> None:
    from pathlib import Path

    header = Path(str(project), "csrc/include/ibk/error.h").read_text()
    codes = set(re.findall(r'^    X\(\w+, "(\w+)"\)', header, re.MULTILINE)) - {"ok", "no_memory"}
    assert codes == set(errors._CORE_ERRORS)
    for code in codes:
        error = errors.from_core(code, "text", "ibk_x", "openssl", 7, sent=True)
        assert (error.code, error.where, error.native, error.sent) == (code, "ibk_x", "openssl 7", True)


def test_everything_public_is_exported() -> None:
    assert len(set(ibkr_oauth.__all__)) == len(ibkr_oauth.__all__)
    for name in ibkr_oauth.__all__:
        assert hasattr(ibkr_oauth, name)
    public = {
        name
        for name, value in vars(ibkr_oauth).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("ibkr_oauth") and callable(value)
    }
    assert public <= set(ibkr_oauth.__all__)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: _core.base_string("GET", "ftp://host/x", []), "expected https://host/path"),
        (lambda: _core.base_string("GET", "https://user@host/x", []), "user name"),
        (lambda: _core.base_string("GET", "https://host/a b", []), "character 15"),
        (lambda: _core.base_string("GET", "https://host/ü", []), "not ASCII"),
        (lambda: _core.base_string("GET", "https://host/x#y", []), "fragment"),
        (lambda: _core.base_string("GET", "https://host/../x", []), "segment"),
        (lambda: _core.base_string("GET", "https://host:70000/x", []), "port"),
        (lambda: _core.base_string("get", "https://host/x", []), "upper-case"),
        (lambda: _core.authorization_header([("oauth_token", "a\r\nX: y")]), "oauth_token: character 2 of 7"),
        (lambda: _core.authorization_header([("oauth_token", 'a"b')]), "oauth_token: character 2 of 3"),
        (lambda: _core.authorization_header([("oauth_token", "a\0")]), "oauth_token: character 2 of 2"),
        (lambda: _core.authorization_header([], 'r"'), "realm: character 2 of 2"),
        (lambda: _core.java_bytes("0x12"), "not hex"),
        (lambda: _core.Secret.from_base64("YWJj\n"), "5 characters"),
        (lambda: _core.Secret.from_base64("YWI="[:3]), "3 characters"),
    ],
)
def test_values_that_cannot_be_signed(call: object, text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        call()  # type: ignore[operator]
    assert text in caught.value.message
