"""DHParameters and DHExchange."""

import threading

import pytest

from ibkr_oauth import _core, errors

DHParameters = _core.DHParameters


class Stop(Exception):
    pass


def test_parameters_of_the_vectors(vectors):
    for name, group in vectors["dh_groups"].items():
        prime = int(group["prime_hex"], 16)
        for loaded in (
            DHParameters.load(group["pem"].encode()),
            DHParameters.load(data=bytearray(group["prime_hex"].encode())),
            DHParameters.from_numbers(prime=bytes.fromhex(group["prime_hex"]), generator=group["generator"]),
        ):
            assert loaded.prime == prime, name
            assert loaded.generator == group["generator"]
            assert loaded.bits == group["bits"]
            assert loaded.pem() == group["pem"]


def test_repr(dh_parameters):
    assert repr(dh_parameters) == "<DHParameters 2048 bits, generator 2>"
    assert repr(dh_parameters.exchange()) == "<DHExchange>"


def test_unusable_groups_are_refused(vectors):
    prime = bytes.fromhex(vectors["dh_groups"]["ffdhe2048"]["prime_hex"])
    for generator in (0, 1, 3, -2, 2**64, 10**40):
        with pytest.raises(errors.DHParametersError):
            DHParameters.from_numbers(prime, generator)
    for wrong in (b"", prime[:100], prime[:-1] + b"\xfe"):
        with pytest.raises(errors.DHParametersError):
            DHParameters.from_numbers(wrong, 2)
    for data in (b"", b"no parameters", vectors["dh_other_formats"]["x942_pem_not_used_by_ibkr"].encode()):
        with pytest.raises(errors.DHParametersError):
            DHParameters.load(data)


def test_types_of_arguments(dh_parameters):
    for call, message in [
        (lambda: DHParameters.load("ff"), "data must be bytes, bytearray or memoryview, not str"),
        (lambda: DHParameters.from_numbers(5, 2), "prime must be bytes, bytearray or memoryview, not int"),
        (lambda: DHParameters.from_numbers(b"", "2"), "generator must be int, not str"),
        (lambda: DHParameters.generate(2048, "no"), "progress must be callable or None, not str"),
        (lambda: dh_parameters.exchange("ff"), "secret must be bytes, bytearray or memoryview, not str"),
        (lambda: dh_parameters.exchange().finish(b"ff"), "response must be str, not bytes"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}$"):
            call()
    exchange = dh_parameters.exchange()
    for call in (
        DHParameters.load,
        DHParameters.from_numbers,
        lambda: DHParameters.generate("2048"),
        lambda: dh_parameters.exchange(other=b"\5"),
        exchange.finish,
    ):
        with pytest.raises(TypeError, match=r"argument|int"):
            call()


def test_thorough_check(vectors):
    group = vectors["dh_groups"]["ffdhe2048"]
    assert DHParameters.load(group["pem"].encode()).check() is None
    composite = bytearray.fromhex(group["prime_hex"])
    composite[100] ^= 1
    with pytest.raises(errors.DHParametersError):
        DHParameters.from_numbers(composite, 2).check()


def test_generate_ends_when_progress_raises():
    def progress():
        raise Stop

    with pytest.raises(Stop):
        DHParameters.generate(progress=progress)
    for bits in (0, -5, 1024, 8193):
        with pytest.raises(errors.InvalidValue):
            DHParameters.generate(bits)


def test_exchange_of_the_vectors(lst_case, vectors):
    parameters = DHParameters.load(vectors["dh_groups"][lst_case["dh_group"]]["pem"].encode())
    exponent = lst_case["dh_random_hex"]
    exchange = parameters.exchange(bytes.fromhex(exponent.zfill(len(exponent) + len(exponent) % 2)))
    assert exchange.challenge == lst_case["diffie_hellman_challenge"]
    secret = exchange.finish(response=lst_case["diffie_hellman_response"])
    assert type(secret) is _core.Secret
    assert secret.reveal().hex() == lst_case["K_bytes_hex"]
    assert exchange.challenge == lst_case["diffie_hellman_challenge"]


def test_two_sides_agree(dh_parameters):
    ours, theirs = dh_parameters.exchange(), dh_parameters.exchange(secret=None)
    assert ours.challenge != theirs.challenge
    challenges = ours.challenge, theirs.challenge
    assert ours.finish(challenges[1].upper()) == theirs.finish("00" + challenges[0])


@pytest.mark.parametrize("response", ["2", "", "0", "1", "-2", "0x2", "zz", "2 ", "ü", "f" * 513])
def test_exchange_is_single_use_good_or_bad(dh_parameters, response):
    exchange = dh_parameters.exchange()
    if response == "2":
        exchange.finish(response)
    else:
        with pytest.raises(errors.LiveSessionTokenError) as caught:
            exchange.finish(response)
        assert caught.value.code == "dh_response"
    with pytest.raises(errors.UsageError) as caught:
        exchange.finish("2")
    assert caught.value.code == "used"
    assert exchange.challenge


def test_only_one_of_many_threads_finishes(dh_parameters):
    exchange = dh_parameters.exchange()
    barrier = threading.Barrier(8)
    results = []

    def finish():
        barrier.wait()
        try:
            results.append(exchange.finish("2"))
        except errors.UsageError as error:
            results.append(error.code)

    threads = [threading.Thread(target=finish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("used") == 7
    assert len(results) == 8


@pytest.mark.parametrize("secret", [b"", b"\0", b"\1", b"\xff" * 256, b"\1" * 300])
def test_exponents_out_of_range(dh_parameters, secret):
    with pytest.raises(errors.InvalidValue):
        dh_parameters.exchange(secret)


def test_exchange_outlives_its_parameters(vectors):
    exchange = DHParameters.load(vectors["dh_groups"]["modp2048"]["pem"].encode()).exchange(b"\3")
    assert exchange.challenge == "8"
    assert exchange.finish("2").reveal() == b"\x08"
