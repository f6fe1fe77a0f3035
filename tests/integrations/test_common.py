"""What the adapters have in common, and what they say where a library is missing."""

import importlib
import sys
from types import ModuleType

import pytest

from ibkr_oauth import InvalidValue
from ibkr_oauth.integrations._common import form_of, missing, put_signature
from ibkr_oauth.signing import FORM_TYPE, SignedRequest


@pytest.mark.parametrize("package", ["requests", "httpx", "aiohttp", "websockets"])
def test_a_missing_library_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"ibkr_oauth.integrations.{package}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(module)
    assert str(caught.value) == f"{package} is not installed: pip install 'ibkr_oauth[{package}]'"
    assert caught.value.name == package


def test_another_missing_module_is_not_blamed_on_the_library() -> None:
    broken = ModuleNotFoundError("No module named 'idna'", name="idna")
    assert missing("requests", "requests", broken) is broken


def test_an_old_aiohttp_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("aiohttp")
    old.__version__, old.payload = "3.11.0", None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "aiohttp", old)
    monkeypatch.delitem(sys.modules, "ibkr_oauth.integrations.aiohttp", raising=False)
    with pytest.raises(ImportError, match=r"aiohttp 3\.11\.0 has no client middlewares: pip install 'ibkr_oauth\[aio"):
        importlib.import_module("ibkr_oauth.integrations.aiohttp")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=x+y%2Bz&a=%C3%BC", [("a", "1"), ("b", "x y+z"), ("a", "ü")]),
        ("empty=&flag", [("empty", ""), ("flag", "")]),
        (b"", None),
        (None, None),
    ],
)
def test_fields_of_a_form(body: bytes | str | None, fields: object) -> None:
    for kind in (FORM_TYPE, "Application/X-WWW-Form-Urlencoded; charset=utf-8"):
        assert form_of(kind, body) == fields
    for kind in ("application/json", "multipart/form-data; boundary=x", "", None):
        assert form_of(kind, body) is None


@pytest.mark.parametrize("body", [b"a=%FF", "ü=1".encode(), object(), iter([b"a=1"])])
def test_forms_that_cannot_be_signed(body: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        form_of(FORM_TYPE, body)
    assert caught.value.__context__ is None


def test_the_cookie_of_the_session_joins_those_of_the_client() -> None:
    headers = {"Authorization": "old", "Cookie": "a=1; api=stale;b=2", "Accept": "*/*"}
    put_signature(headers, SignedRequest("GET", "", {"Authorization": "new", "Cookie": "api=fresh"}))
    assert headers == {"Authorization": "new", "Cookie": "a=1; b=2; api=fresh", "Accept": "*/*"}
    put_signature(headers, SignedRequest("GET", "", {"Cookie": "api=fresher", "Content-Type": FORM_TYPE}))
    assert headers == {"Cookie": "a=1; b=2; api=fresher", "Accept": "*/*"}
