"""RSAKey: files in, signatures and secrets out."""

import re

import pytest

from ibkr_oauth import _core, errors

RSAKey = _core.RSAKey


class Stop(Exception):
    pass


def test_all_spellings_are_one_key(vectors):
    for keys in (vectors["keys"]["signature"], vectors["keys"]["encryption"]):
        phrase = vectors["keys"]["encrypted_pem_passphrase"].encode()
        found = {
            RSAKey.load(keys["private_pkcs1_pem"].encode()).fingerprint,
            RSAKey.load(keys["private_pkcs8_pem"].encode()).fingerprint,
            RSAKey.load(bytearray(keys["private_pkcs8_encrypted_pem"].encode()), phrase).fingerprint,
            RSAKey.load(
                data=memoryview(keys["private_pkcs1_legacy_encrypted_pem"].encode()),
                passphrase=bytearray(phrase),
                what="old key",
            ).fingerprint,
        }
        assert len(found) == 1


def test_properties(signing_key, vectors):
    assert signing_key.bits == 2048
    assert re.fullmatch("[0-9a-f]{64}", signing_key.fingerprint)
    assert signing_key.public_pem() == vectors["keys"]["signature"]["public_spki_pem"]
    with pytest.raises(AttributeError):
        signing_key.bits = 1


def test_private_pem_is_a_secret_that_loads(signing_key, vectors):
    pem = signing_key.private_pem()
    assert type(pem) is _core.Secret
    assert pem.reveal().decode() == vectors["keys"]["signature"]["private_pkcs8_pem"]
    assert RSAKey.load(pem.reveal()).fingerprint == signing_key.fingerprint


def test_repr_shows_the_start_of_the_fingerprint(signing_key):
    shown = ":".join(re.findall("..", signing_key.fingerprint)[:8])
    assert repr(signing_key) == f"<RSAKey 2048 bits, {shown}:…>"


@pytest.mark.parametrize("passphrase", [None, b"wrong", b""])
def test_encrypted_key_needs_its_pass_phrase(vectors, passphrase):
    pem = vectors["keys"]["signature"]["private_pkcs8_encrypted_pem"].encode()
    with pytest.raises(errors.KeyFormatError) as caught:
        RSAKey.load(pem, passphrase, "signing key")
    assert caught.value.code == "passphrase"
    assert caught.value.message.startswith("signing key")
    assert caught.value.where


@pytest.mark.parametrize("data", [b"", b"no key", b"\0" * 100, b"x" * 70000])
def test_what_is_no_key_is_refused(data):
    with pytest.raises(errors.KeyFormatError) as caught:
        RSAKey.load(data)
    assert caught.value.code == "key_format"
    assert caught.value.message.startswith("private key")


def test_public_half_is_refused_by_name(vectors):
    with pytest.raises(errors.KeyFormatError, match="public key"):
        RSAKey.load(vectors["keys"]["signature"]["public_spki_pem"].encode())


def test_types_of_arguments(signing_pem, signing_key):
    for call, message in [
        (lambda: RSAKey.load(signing_pem), "data must be bytes, bytearray or memoryview, not str"),
        (lambda: RSAKey.load(b"", "phrase"), "passphrase must be bytes, bytearray or memoryview, not str"),
        (lambda: RSAKey.load(b"", what=b"key"), "what must be str, not bytes"),
        (lambda: signing_key.sign(b"message"), "message must be str, not bytes"),
        (lambda: signing_key.decrypt(b"text"), "ciphertext must be str, not bytes"),
        (lambda: signing_key.fits(None), "ciphertext must be str, not NoneType"),
        (lambda: RSAKey.generate(2048, 5), "progress must be callable or None, not int"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}$"):
            call()
    for call in (
        RSAKey.load,
        signing_key.sign,
        signing_key.decrypt,
        signing_key.fits,
        lambda: RSAKey.generate("2048"),
        lambda: RSAKey.generate(2.5),
    ):
        with pytest.raises(TypeError):
            call()


def test_key_data_is_let_go(signing_pem):
    data = bytearray(signing_pem.encode())
    RSAKey.load(data)
    data.clear()
    data += b"nothing"
    with pytest.raises(errors.KeyFormatError):
        RSAKey.load(data)
    data.clear()


def test_signatures_of_the_vectors(rsa_case, signing_key):
    assert signing_key.sign(rsa_case["base_string"]) == rsa_case["signature_base64"]
    assert signing_key.sign(message=rsa_case["base_string"]) == rsa_case["signature_base64"]


def test_sign_takes_any_text(signing_key):
    assert len(signing_key.sign("")) == 344
    assert len(signing_key.sign("ü\0\U0001f600" * 10000)) == 344
    with pytest.raises(errors.InvalidValue, match="message has a lone surrogate"):
        signing_key.sign("\udc00")


def test_decryption_of_the_vectors(vectors, encryption_key):
    for name, case in vectors["access_token_secrets"].items():
        secret = encryption_key.decrypt(case["encrypted_base64"])
        assert type(secret) is _core.Secret
        assert secret.reveal().hex() == case["plaintext_hex"], name
        assert encryption_key.fits(ciphertext=case["encrypted_base64"]) is True


def test_fits_tells_keys_apart(vectors, signing_key):
    for case in vectors["access_token_secrets"].values():
        assert signing_key.fits(case["encrypted_base64"]) is False


@pytest.mark.parametrize("ciphertext", ["", "no base64!", "QUJD", "\0"])
def test_bad_ciphertext(encryption_key, ciphertext):
    with pytest.raises(errors.KeyMismatchError):
        encryption_key.decrypt(ciphertext)


def test_generate_calls_progress():
    steps = []
    key = RSAKey.generate(bits=2048, progress=lambda: steps.append(1))
    assert key.bits == 2048
    assert len(steps) > 3
    assert RSAKey.load(key.private_pem().reveal()).fingerprint == key.fingerprint


def test_progress_that_raises_ends_the_search():
    calls = []

    def progress():
        calls.append(1)
        raise Stop

    with pytest.raises(Stop) as caught:
        RSAKey.generate(8192, progress)
    assert calls == [1]
    assert caught.value.__context__ is None


@pytest.mark.parametrize("bits", [0, -1, 1024, 2047, 8193, 2**31 - 1, -(2**31)])
def test_sizes_out_of_range(bits):
    with pytest.raises(errors.InvalidValue):
        RSAKey.generate(bits)


def test_size_beyond_c():
    with pytest.raises(OverflowError):
        RSAKey.generate(2**31)


def test_implicit_rejection_is_what_decrypting_with_a_wrong_key_does(vectors, signing_key, encryption_key):
    ciphertext = vectors["access_token_secrets"]["typical_32"]["encrypted_base64"]
    assert signing_key.rejects_implicitly is encryption_key.rejects_implicitly
    if signing_key.rejects_implicitly:
        assert signing_key.decrypt(ciphertext) != encryption_key.decrypt(ciphertext)
    else:
        with pytest.raises(errors.KeyMismatchError):
            signing_key.decrypt(ciphertext)
