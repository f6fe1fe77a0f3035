"""Objects shared by threads, and work that lets other threads run."""

import threading

from ibkr_oauth import _core

THREADS = 8


def together(function) -> list:
    """What function gives in each of many threads that start at once."""
    barrier = threading.Barrier(THREADS)
    results: list = []

    def run() -> None:
        barrier.wait()
        results.append(function())

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_one_rsa_key(signing_key, vectors):
    case = vectors["rsa_requests"][0]
    results = together(lambda: {signing_key.sign(case["base_string"]) for _ in range(20)})
    assert results == [{case["signature_base64"]}] * THREADS


def test_one_encryption_key(encryption_key, vectors):
    case = vectors["access_token_secrets"]["typical_32"]
    results = together(lambda: {encryption_key.decrypt(case["encrypted_base64"]).reveal().hex() for _ in range(20)})
    assert results == [{case["plaintext_hex"]}] * THREADS


def test_one_signer(signer, vectors):
    case = vectors["hmac_requests"][0]
    arguments = (case["method"], case["url"], None, None, case["nonce"], case["timestamp"])
    results = together(lambda: {signer.sign(*arguments) for _ in range(500)})
    assert results == [{(case["url"], case["authorization_header"])}] * THREADS


def test_one_group(dh_parameters):
    assert together(lambda: dh_parameters.exchange(b"\5").challenge) == ["20"] * THREADS


def test_one_secret():
    secret = _core.Secret(b"shared")
    results = together(lambda: all(secret == _core.Secret(secret.reveal()) for _ in range(500)))
    assert results == [True] * THREADS


def test_a_list_of_pairs_that_changes_meanwhile(signer):
    """Each call sees some state of the list, and no element is used after it was freed."""
    pairs: list[tuple[str, str]] = []
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            pairs.append((f"name{number}", "value" * 50))
            number += 1
            if len(pairs) > 20:
                pairs.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        results = together(
            lambda: (
                {len(_core.normalise(pairs)) >= 0 for _ in range(300)}
                | {bool(signer.sign("GET", "https://host/", pairs, None, "n", "1")) for _ in range(300)}
            )
        )
    finally:
        done.set()
        thread.join()
    assert results == [{True}] * THREADS


def test_other_threads_run_meanwhile(dh_parameters):
    """Were the GIL kept, the loop would not get a turn until the check is done."""
    started, finished = threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        dh_parameters.check()
        finished.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    turns = 0
    while not finished.is_set():
        turns += 1
    thread.join()
    assert turns > 1000
