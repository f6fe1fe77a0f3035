"""Key files in every spelling, and what was encrypted for them: `cryptography` made the one and the other."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from ibkr_oauth import DHParameters, DHParametersError, IBKROAuthError, KeyFormatError, KeyMismatchError, PrivateKey

FORMS = ("private_pkcs1_pem", "private_pkcs8_pem", "private_pkcs8_encrypted_pem", "private_pkcs1_legacy_encrypted_pem")


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str | bytes:
    """The same key as mail, editors, variables and secret stores hand it on: several of these at once."""
    if draw(st.booleans()):
        text = f"Bag Attributes\n    friendlyName: key\n{text}"
    if draw(st.booleans()):
        text = "\n".join(
            " " * draw(st.integers(0, 3)) + line + draw(st.sampled_from(["", " ", "\t"])) for line in text.splitlines()
        )
    if draw(st.booleans()):
        text += draw(st.sampled_from(["\n", "\n\n", "   ", "\nend of mail\n"]))
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\r", "\\n", "\\r\\n"])))
    coded = draw(st.sampled_from(["text", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "base64", "lines"]))
    if coded == "text":
        return text
    if coded == "base64":
        return base64.b64encode(text.encode()).decode()
    if coded == "lines":
        return base64.encodebytes(text.encode())
    return text.encode(coded)


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_private_keys_in_every_spelling(form: str, vectors: dict[str, Any], data: st.DataObject) -> None:
    keys = vectors["keys"]
    expected = PrivateKey.load(keys["signature"]["private_pkcs8_pem"])
    spelling = data.draw(spelled(keys["signature"][form]))
    assert PrivateKey.load(spelling, keys["encrypted_pem_passphrase"]) == expected


@given(data=st.data())
def test_groups_in_every_spelling(pem: dict[str, str], data: st.DataObject) -> None:
    assert DHParameters.load(data.draw(spelled(pem["dh_params"]))) == DHParameters.rfc7919()


@given(data=st.data())
def test_damaged_keys_are_refused_and_not_shown(pem: dict[str, str], data: st.DataObject) -> None:
    """A cut, or one letter changed: a KeyFormatError, or still the same key where the change means nothing."""
    text = pem["signing"]
    where = data.draw(st.integers(30, len(text) - 30))
    if data.draw(st.booleans()):
        damaged = text[:where]
    else:
        damaged = text[:where] + data.draw(st.sampled_from("AZaz09+/*=-")) + text[where + 1 :]
    try:
        assert PrivateKey.load(damaged) == PrivateKey.load(text)
        said = ""
    except KeyFormatError as error:
        said = str(error)
    for line in text.splitlines()[1:-1]:
        assert line[:16] not in said


@given(st.binary(max_size=300), st.sampled_from(["key", "group"]))
def test_any_bytes(data: bytes, what: str) -> None:
    """They are no key. That is said by our own errors, in reasonable time, and without repeating them."""
    with pytest.raises((KeyFormatError, DHParametersError, IBKROAuthError)) as caught:
        PrivateKey.load(data) if what == "key" else DHParameters.load(data)
    assert len(data) < 12 or repr(data)[2:-1] not in str(caught.value)


# --- Decryption ----------------------------------------------------------------------------------


@given(plaintext=st.binary(min_size=1, max_size=245))
def test_what_was_encrypted_for_a_key(pem: dict[str, str], plaintext: bytes) -> None:
    """Every length that PKCS#1 v1.5 leaves room for with 2048 bits, zero bytes in front included."""
    public = load_pem_public_key(pem["encryption_public"].encode())
    assert isinstance(public, RSAPublicKey)
    ciphertext = base64.b64encode(public.encrypt(plaintext, PKCS1v15())).decode()
    assert PrivateKey.load(pem["encryption"]).decrypt(ciphertext).reveal() == plaintext


@given(data=st.binary(max_size=300).filter(lambda data: len(data) != 256))
def test_ciphertexts_of_another_length(pem: dict[str, str], data: bytes) -> None:
    with pytest.raises(KeyMismatchError):
        PrivateKey.load(pem["encryption"]).decrypt(base64.b64encode(data).decode())
