"""Where a setting comes from: the first source that has it, as the order says, and a conflict where others differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth import config

#: Settings whose values are plain words, with the variables that name them, in the order of asking.
VARIABLES = {
    "consumer_key": ("IBKR_OAUTH_CONSUMER_KEY", "IBIND_OAUTH1A_CONSUMER_KEY"),
    "access_token": ("IBKR_OAUTH_ACCESS_TOKEN", "IBIND_OAUTH1A_ACCESS_TOKEN"),
    "realm": ("IBKR_OAUTH_REALM", "IBIND_OAUTH1A_REALM"),
    "base_url": ("IBKR_OAUTH_BASE_URL", "IBIND_OAUTH1A_REST_URL"),
    "proxy": ("IBKR_OAUTH_PROXY",),
}
VALUES = st.none() | st.sampled_from(["", "AAA", "BBB", "AAA ", "BBB/"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def write(folder: Path, profiles: dict[str, dict[str, str]], default: str | None) -> Path:
    path = folder / "config.toml"
    lines = [f'default_profile = "{default}"'] if default else []
    for name, values in profiles.items():
        lines += [f"[profile.{name}]", *(f'{key} = "{text}"' for key, text in values.items())]
    path.touch(0o600)
    path.write_text("\n".join(lines), "utf-8")
    return path


def meaning(name: str, text: str) -> str:
    """Blanks come from copying, and a slash at the end of an address means nothing."""
    text = "".join(text.split())
    return text.rstrip("/") if name == "base_url" else text


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("chosen", ["argument", "variable", "default", "none"])
@given(
    keyword=VALUES,
    in_profile=st.none() | st.sampled_from(["AAA", "BBB", "AAA ", "BBB/"]),
    ours=VALUES,
    theirs=VALUES,
)
def test_the_first_source_that_has_a_setting(
    folder: Path,
    name: str,
    chosen: str,
    keyword: str | None,
    in_profile: str | None,
    ours: str | None,
    theirs: str | None,
) -> None:
    """The order: keyword, chosen profile, environment (our name, then ibind's), default profile."""
    profile = {} if in_profile is None else {name: in_profile}
    path = write(folder, {"paper": profile}, "paper" if chosen == "default" else None)
    environment = {"IBKR_OAUTH_CONFIG": str(path)}
    if chosen == "variable":
        environment["IBKR_OAUTH_PROFILE"] = "paper"
    values = dict(zip(VARIABLES[name], (ours, theirs), strict=False))
    environment |= {variable: text for variable, text in values.items() if text is not None}

    settings = config.load("paper" if chosen == "argument" else None, environment=environment, **{name: keyword})

    from_profile = ("profile paper", in_profile)
    sources = [("keyword argument", keyword)]
    sources += [from_profile] if chosen in ("argument", "variable") else []
    sources += list(values.items())
    sources += [from_profile] if chosen == "default" else []
    there = [(origin, text) for origin, text in sources if text]
    found = settings.get(name)
    if not there:
        assert found is None
        assert name not in settings.origins
        return
    assert found is not None
    origin, text = there[0]
    assert found.text == text
    assert found.origin.startswith(origin) or origin in found.origin
    assert settings.origins[name] == found.origin
    others = [other for other in there[1:] if meaning(name, other[1]) != meaning(name, text)]
    assert [(conflict.used, conflict.other.text) for conflict in settings.conflicts] == [(found, o[1]) for o in others]


@given(st.text("ABCDEFGH0123456789", min_size=9, max_size=40))
def test_secrets_are_never_shown(value: str) -> None:
    """Neither by the table for people nor by any repr."""
    environment = {
        "IBKR_OAUTH_ACCESS_TOKEN_SECRET": value,
        "IBKR_OAUTH_SIGNING_KEY": f"-----BEGIN PRIVATE KEY-----\n{value}\n-----END PRIVATE KEY-----\n",
    }
    settings = config.from_env(environment)
    shown = repr(settings) + "".join(f"{each!r} {each.value}" for each in settings.masked())
    assert value not in shown
    assert value[4:] not in shown
    assert value not in repr(settings.get("access_token_secret"))


@pytest.mark.parametrize(("other", "differs"), [("/etc/../etc/ca.pem", False), ("/etc/other.pem", True)])
def test_one_file_by_two_paths_is_no_conflict(other: str, differs: bool) -> None:
    settings = config.load(
        environment={"IBKR_OAUTH_CONFIG": "/none", "IBKR_OAUTH_CA_FILE": "/etc/ca.pem"}, ca_file=other
    )
    assert [conflict.name for conflict in settings.conflicts] == (["ca_file"] if differs else [])
