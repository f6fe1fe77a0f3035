"""The module as a whole: it is what its stub says, and loads more than once in a process."""

import ast
import contextlib
import copy
import ctypes
import gc
import importlib
import inspect
import pickle
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ibkr_oauth import _core, errors

TYPES = [
    "DHExchange",
    "DHParameters",
    "EngineClient",
    "HttpClient",
    "KeepAlive",
    "Mailbox",
    "RSAKey",
    "RequestSigner",
    "Secret",
]
STUB = ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text())


@pytest.fixture
def objects(signing_key, dh_parameters, signer, client) -> list:
    mailbox = _core.Mailbox()
    engine = _core.EngineClient(mailbox, user_agent="x")
    return [
        mailbox,
        engine,
        _core.KeepAlive(engine, 1, "GET", "http://127.0.0.1:1/", [], 1000),
        _core.Secret(b"kept"),
        signing_key,
        dh_parameters,
        dh_parameters.exchange(),
        signer,
        client,
    ]


def stub_signature(node: ast.FunctionDef, drop_first: bool) -> list[tuple]:
    """(name, default) of each parameter, with "/" and "*" where the kind changes."""
    arguments = node.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [inspect.Parameter.empty] * (len(plain) - len(arguments.defaults))
    defaults += [ast.literal_eval(default) for default in arguments.defaults]
    result = [(argument.arg, default) for argument, default in zip(plain, defaults, strict=True)]
    if arguments.posonlyargs:
        result.insert(len(arguments.posonlyargs), ("/", None))
    if drop_first:
        del result[0]
    if arguments.kwonlyargs:
        result.append(("*", None))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        result.append((argument.arg, value))
    return result


def runtime_signature(function) -> list[tuple]:
    result: list[tuple] = []
    parameters = list(inspect.signature(function).parameters.values())
    for index, parameter in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if before == parameter.POSITIONAL_ONLY != parameter.kind:
            result.append(("/", None))
        if parameter.kind == parameter.KEYWORD_ONLY != before:
            result.append(("*", None))
        result.append((parameter.name, parameter.default))
    if parameters and parameters[-1].kind == inspect.Parameter.POSITIONAL_ONLY:
        result.append(("/", None))
    return result


def stub_functions() -> list[tuple[str, ast.FunctionDef, bool]]:
    found = []
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef):
            found.append((node.name, node, False))
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if not isinstance(part, ast.FunctionDef) or part.name in ("__len__", "__eq__"):
                    continue
                words = {ast.unparse(decorator) for decorator in part.decorator_list}
                if "property" not in words:
                    found.append((f"{node.name}.{part.name}", part, "staticmethod" not in words))
    return found


@pytest.mark.parametrize(("name", "node", "method"), stub_functions(), ids=[name for name, *_ in stub_functions()])
def test_function_has_the_signature_of_the_stub(name, node, method):
    owner, _, attribute = name.rpartition(".")
    scope = getattr(_core, owner) if owner else _core
    if attribute == "__new__":
        assert runtime_signature(scope) == stub_signature(node, drop_first=True)
        return
    function = getattr(scope, attribute)
    assert function.__doc__
    expected = stub_signature(node, drop_first=False)
    if method and not inspect.ismethod(function) and expected[0][0] in ("self", "cls"):
        actual = runtime_signature(function)
        if getattr(function, "__self__", None) is scope:
            expected = expected[1:]
        elif ("/", None) not in expected:
            actual.remove(("/", None))
        assert actual == expected
    else:
        assert runtime_signature(function) == expected


def test_nothing_but_what_the_stub_names():
    named = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in dir(_core) if not name.startswith("_")} == named
    for node in STUB.body:
        if isinstance(node, ast.ClassDef):
            parts = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
            kind = getattr(_core, node.name)
            assert {n for n in vars(kind) if not n.startswith("_")} == {n for n in parts if not n.startswith("_")}


@pytest.mark.parametrize("name", TYPES)
def test_type_is_final_and_immutable(name):
    kind = getattr(_core, name)
    assert kind.__module__ == "ibkr_oauth._core"
    assert kind.__doc__
    with pytest.raises(TypeError, match="immutable"):
        kind.extra = 1
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (kind,), {})
    with pytest.raises(TypeError):
        object.__new__(kind)


@pytest.mark.parametrize("name", ["RSAKey", "DHParameters", "DHExchange"])
def test_type_has_no_constructor(name):
    with pytest.raises(TypeError, match="cannot create"):
        getattr(_core, name)()


def test_objects_take_no_attributes(objects):
    for item in objects:
        with pytest.raises(AttributeError):
            item.extra = 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_refuse_pickling(objects, protocol):
    for item in objects:
        with pytest.raises(TypeError, match=f"^{type(item).__name__} objects cannot be pickled$"):
            pickle.dumps(item, protocol)


def test_objects_give_no_state(objects):
    for item in objects:
        for refused in (item.__reduce__, item.__getstate__, lambda item=item: item.__reduce_ex__(4)):
            with pytest.raises(TypeError, match="cannot be pickled"):
                refused()


def test_immutable_objects_are_their_own_copies(objects):
    mutable = (_core.DHExchange, _core.EngineClient, _core.HttpClient, _core.KeepAlive, _core.Mailbox)
    for item in objects:
        if type(item) in mutable:
            with pytest.raises(TypeError, match="cannot be pickled"):
                copy.copy(item)
            with pytest.raises(TypeError, match="cannot be pickled"):
                copy.deepcopy(item)
        else:
            assert copy.copy(item) is item
            assert copy.deepcopy([item])[0] is item


def test_objects_take_part_in_garbage_collection(objects):
    for item in objects:
        assert gc.is_tracked(item)
        assert gc.get_referents(item) == [type(item)]
        assert any(one is item for one in gc.get_referrers(type(item)))
    if getattr(sys, "_is_gil_enabled", lambda: True)():  # without a GIL, Python 3.13 names no modules there
        for held in (*map(type, objects), errors.from_core):
            assert any(one is _core for one in gc.get_referrers(held))


@contextlib.contextmanager
def emptied(*objects) -> Iterator[None]:
    """Objects without their native half, as nobody can make them but with force."""
    halves = [ctypes.c_void_p.from_address(id(item) + object.__basicsize__) for item in objects]
    kept = [half.value for half in halves]
    for half in halves:
        half.value = None
    try:
        yield
    finally:
        for half, value in zip(halves, kept, strict=True):
            half.value = value


def uses(item) -> list[Callable[[], object]]:
    """Everything that can be asked of an object itself: its properties and its methods, which get None for arguments."""
    found: list[Callable[[], object]] = []
    for name, value in vars(type(item)).items():
        if name.startswith("_"):
            continue
        if inspect.isgetsetdescriptor(value):
            found.append(partial(getattr, item, name))
        elif inspect.ismethoddescriptor(value) and not inspect.isbuiltin(getattr(type(item), name)):
            method = getattr(item, name)
            found.append(partial(method, *[None] * len(inspect.signature(method).parameters)))
    return found


def test_objects_without_contents_say_so(objects):
    seen = 0
    for item in objects:
        for use in uses(item):
            with emptied(item), pytest.raises(SystemError, match=r"^object without contents$"):
                use()
            seen += 1
    assert seen > 25


def test_arguments_without_contents_say_so(signing_key, dh_parameters, signer, client):
    """So do those who are given one."""
    url = "http://127.0.0.1:1/"
    secret, mailbox = _core.Secret(b"one"), _core.Mailbox()
    engine = _core.EngineClient(mailbox, user_agent="x")
    keep_alive = _core.KeepAlive(engine, 1, "GET", url, [], 1000)
    request = ("GET", url, [], None, True, 1000, signer, None, None, None, 1)
    for item, use in [
        (secret, lambda: len(secret)),
        (secret, lambda: repr(secret)),
        (secret, lambda: secret == _core.Secret(b"one")),
        (secret, lambda: _core.Secret(b"one") == secret),
        (secret, lambda: _core.hmac_sha256("text", secret)),
        (secret, lambda: _core.derive_live_session_token(secret, _core.Secret(b"other"))),
        (secret, lambda: _core.derive_live_session_token(_core.Secret(b"other"), secret)),
        (secret, lambda: _core.verify_live_session_token(secret, "KEY", "0" * 40)),
        (secret, lambda: _core.rsa_signature("GET", url, [], signing_key, secret)),
        (secret, lambda: _core.RequestSigner("KEY", "token", secret, "realm", "omit")),
        (signing_key, lambda: repr(signing_key)),
        (signing_key, lambda: _core.rsa_signature("GET", url, [], signing_key)),
        (dh_parameters, lambda: repr(dh_parameters)),
        (mailbox, lambda: _core.EngineClient(mailbox, user_agent="x")),
        (engine, lambda: _core.KeepAlive(engine, 2, "GET", url, [], 1000)),
        (signer, lambda: keep_alive.start(signer)),
        (signer, lambda: client.send(*request)),
        (signer, lambda: engine.submit(1, *request)),
    ]:
        with emptied(item), pytest.raises(SystemError, match=r"^object without contents$"):
            use()


def test_versions():
    found = _core.versions()
    assert re.match(r"OpenSSL 3\.|OpenSSL [4-9]", found["openssl"])
    assert found["libcurl"].startswith("libcurl/")
    assert list(found) == ["openssl", "libcurl"]


def test_find_ca_names_existing_places():
    file, path = _core.find_ca()
    assert file or path
    assert not file or Path(file).is_file()
    assert not path or Path(path).is_dir()


def test_second_copy_of_the_module_has_types_and_errors_of_its_own():
    name = "ibkr_oauth._core"
    first = sys.modules.pop(name)
    try:
        second = importlib.import_module(name)
        assert second.Secret is not first.Secret
        assert second.Secret(b"a") != first.Secret(b"a")
        with pytest.raises(errors.InvalidValue):
            second.java_bytes("zz")
        with pytest.raises(TypeError, match=r"must be ibkr_oauth\._core\.Secret"):
            second.hmac_sha256("text", first.Secret(b"key"))
    finally:
        sys.modules[name] = first
        sys.modules["ibkr_oauth"]._core = first
    del second
    gc.collect()
    assert first.Secret(b"a") == first.Secret(b"a")


def run_isolated(code: str) -> None:
    """Runs code in a new interpreter with a GIL of its own; the interpreter is gone afterwards."""
    if sys.version_info < (3, 12):
        pytest.skip("3.11 has no isolated interpreters")
    code = f"import sys\nsys.path[:] = {sys.path!r}\n" + textwrap.dedent(code)
    if sys.version_info < (3, 13):
        interpreters = importlib.import_module("_xxsubinterpreters")
        interpreter = interpreters.create(isolated=True)
    else:
        interpreters = importlib.import_module("_interpreters")
        interpreter = interpreters.create("isolated")
    try:
        failure = interpreters.run_string(interpreter, code)
        assert failure is None, failure.formatted
    finally:
        interpreters.destroy(interpreter)


def test_isolated_interpreters(signing_pem):
    text = _core.hmac_sha256("base", _core.Secret(b"key"))
    code = f"""
        from ibkr_oauth import _core, errors
        assert _core.hmac_sha256("base", _core.Secret(b"key")) == {text!r}
        key = _core.RSAKey.load({signing_pem!r}.encode())
        key.sign("message")
        try:
            _core.java_bytes("zz")
        except errors.InvalidValue:
            pass
        else:
            raise AssertionError("no error")
        mailbox = _core.Mailbox()
        engine = _core.EngineClient(mailbox, user_agent="x")
        engine.submit(1, "GET", "http://127.0.0.1:1/", [], None, True, 5000)
        ((number, outcome),) = mailbox.wait(5000)
        assert isinstance(outcome, errors.ConnectError)
        keep_alive = _core.KeepAlive(engine, 2, "GET", "http://127.0.0.1:1/", [], 1)
        keep_alive.start(None)
        engine.submit(3, "GET", "http://127.0.0.1:1/", [], None, True, 5000)
    """
    for _ in range(3):
        run_isolated(code)
    assert _core.hmac_sha256("base", _core.Secret(b"key")) == text
