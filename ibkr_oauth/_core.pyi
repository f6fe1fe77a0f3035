"""The typed face of the C module. Internal: people use the classes of `ibkr_oauth`.

Texts are `str`, bytes are `bytes`, `bytearray` or `memoryview`, and pairs are (name, value) tuples of decoded `str`. Failures
raise the classes of `ibkr_oauth.errors`; a value of a wrong type raises `TypeError`.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias, final

_Bytes: TypeAlias = bytes | bytearray | memoryview
_Pairs: TypeAlias = Sequence[tuple[str, str]]
_Progress: TypeAlias = Callable[[], object]
# Status, header lines (see `header_pairs`), inflated body, microseconds, whether the connection was reused.
_Response: TypeAlias = tuple[int, bytes, bytes, int, bool]

@final
class Secret:
    """Bytes that are wiped when the last holder lets go. `repr` hides them, `==` takes constant time, pickling is refused."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    def __new__(cls, data: _Bytes) -> Secret: ...
    @classmethod
    def from_base64(cls, text: str, what: str = "secret") -> Secret:
        """From strict base64 text; `what` names the value in the error."""
    def reveal(self) -> bytes:
        """The bytes themselves: the one exit. The copy cannot be wiped any more."""
    def copy_into(self, target: bytearray | memoryview, /) -> None:
        """The bytes into memory of their length, which the caller can wipe. Raises ValueError for another length."""
    def reveal_base64(self) -> str:
        """The bytes as base64 text, likewise unprotected."""
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __copy__(self) -> Secret: ...
    def __deepcopy__(self, memo: object, /) -> Secret: ...

@final
class RSAKey:
    """A private RSA key of 2048 bits or more."""

    @classmethod
    def load(cls, data: _Bytes, passphrase: _Bytes | None = None, what: str = "private key") -> RSAKey:
        """From PEM in any spelling or DER. `what` names the key in errors ("signing key")."""
    @classmethod
    def generate(cls, bits: int = 2048, progress: _Progress | None = None) -> RSAKey:
        """`progress` is called now and then; what it raises ends the search."""
    @property
    def bits(self) -> int: ...
    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public half (SubjectPublicKeyInfo, DER), 64 lower-case hex digits."""
    def public_pem(self) -> str:
        """SubjectPublicKeyInfo PEM with LF line ends."""
    def private_pem(self) -> Secret:
        """PKCS#8 PEM without encryption, LF line ends."""
    def sign(self, message: str) -> str:
        """RSA-SHA256 of the UTF-8 bytes, base64."""
    def decrypt(self, ciphertext: str) -> Secret:
        """RSAES-PKCS1-v1_5 of base64 text. Success does not prove the key (OpenSSL >= 3.2 rejects implicitly)."""
    @property
    def rejects_implicitly(self) -> bool:
        """Whether `decrypt` gives random bytes for a ciphertext of another key (OpenSSL >= 3.2) instead of an error."""
    def fits(self, ciphertext: str) -> bool:
        """Whether this key truly decrypts that base64 text: for diagnosis, see csrc/include/ibk/key.h."""
    def __copy__(self) -> RSAKey: ...
    def __deepcopy__(self, memo: object, /) -> RSAKey: ...

@final
class DHParameters:
    """A Diffie-Hellman group."""

    @classmethod
    def load(cls, data: _Bytes) -> DHParameters:
        """From PKCS#3 PEM in any spelling, its DER, or the prime in hex (generator 2)."""
    @classmethod
    def from_numbers(cls, prime: bytes, generator: int) -> DHParameters:
        """`prime` in big-endian bytes."""
    @classmethod
    def generate(cls, bits: int = 2048, progress: _Progress | None = None) -> DHParameters:
        """Searches a safe prime with generator 2: seconds to minutes."""
    @property
    def bits(self) -> int: ...
    @property
    def generator(self) -> int: ...
    @property
    def prime(self) -> int: ...
    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER that the PEM holds, 64 lower-case hex digits."""
    def pem(self) -> str:
        """PKCS#3 PEM with LF line ends and positive DER integers."""
    def check(self) -> None:
        """Raises unless the prime is prime and safe. About 0.2 s."""
    def exchange(self, secret: _Bytes | None = None) -> DHExchange:
        """`secret`: the exponent in big-endian bytes, for tests; otherwise 256 random bits."""
    def __copy__(self) -> DHParameters: ...
    def __deepcopy__(self, memo: object, /) -> DHParameters: ...

@final
class DHExchange:
    """One exchange, single use."""

    @property
    def challenge(self) -> str:
        """A = g^a mod p, lower-case hex as sent."""
    def finish(self, response: str) -> Secret:
        """The shared secret as Java's BigInteger.toByteArray, from the server's half in hex."""

@final
class RequestSigner:
    """Signs protected requests with a live session token (HMAC-SHA256). Immutable; threads may share one."""

    def __new__(
        cls, consumer_key: str, access_token: str, live_session_token: Secret, realm: str, query_signing: str
    ) -> RequestSigner: ...
    def sign(
        self,
        method: str,
        url: str,
        params: _Pairs | None,
        form: _Pairs | None,
        nonce: str | None,
        timestamp: str | int,
        /,
    ) -> tuple[str, str]:
        """The URL with `params` in its query, exactly as signed and to be sent, and the Authorization header's value.

        `nonce`: None for a new one. `timestamp`: seconds since 1970, an int or its digits.
        """
    def __copy__(self) -> RequestSigner: ...
    def __deepcopy__(self, memo: object, /) -> RequestSigner: ...

@final
class HttpClient:
    """One blocking transport, one request at a time. See csrc/include/ibk/http.h for what it guarantees."""

    def __new__(
        cls,
        *,
        user_agent: str,
        ca_file: str | None = None,
        proxy: str | None = None,
        connect_timeout_ms: int = 10_000,
        max_header_bytes: int = 65_536,
        max_body_bytes: int = 67_108_864,
    ) -> HttpClient: ...
    def send(
        self,
        method: str,
        url: str,
        headers: _Pairs,
        body: _Bytes | None,
        repeatable: bool,
        timeout_ms: int,
        signer: RequestSigner | None = None,
        params: _Pairs | None = None,
        form: _Pairs | None = None,
        nonce: str | None = None,
        timestamp: str | int | None = None,
        /,
    ) -> _Response:
        """Status, header lines, inflated body, microseconds, whether the connection was reused."""
    def cancel(self) -> None:
        """From any thread: ends the transfer under way, or the next one."""

@final
class Mailbox:
    """Where what the engine has finished waits for its taker. Threads may share one.

    An outcome is what `HttpClient.send` would return, or, as an object, what it would raise.
    After fork all but `wake` raise UsedAfterFork.
    """

    def __new__(cls) -> Mailbox: ...
    def fileno(self) -> int:
        """A descriptor that is readable while there is something to take. To be watched, never read or closed.

        It is the mailbox's, so the mailbox has to live while it is watched.
        """
    def take(self) -> list[tuple[int, _Response | Exception]]:
        """(key, outcome) of all that is finished, the oldest first. Never waits."""
    def wait(self, timeout_ms: int, /) -> list[tuple[int, _Response | Exception]]:
        """The same once there is something; [] after the time (-1: for ever) or a `wake`.

        Without the GIL; signals get their chance within 50 ms, and what their handlers raise ends it.
        """
    def wake(self) -> None:
        """From any thread: lets one `wait` return [], the one under way or else the next."""

@final
class EngineClient:
    """Requests that run on the engine's thread, any number at once. Threads may share one.

    One thread without Python serves all clients of the process; it starts with the first and ends with the last.
    Up to 128 requests to one host are sent at once, more wait their turn. After fork `submit` and `cancel` raise
    UsedAfterFork; `close` does nothing there. See csrc/include/ibk/engine.h for what it guarantees.
    """

    def __new__(
        cls,
        mailbox: Mailbox,
        *,
        user_agent: str,
        ca_file: str | None = None,
        proxy: str | None = None,
        connect_timeout_ms: int = 10_000,
        max_header_bytes: int = 65_536,
        max_body_bytes: int = 67_108_864,
    ) -> EngineClient: ...
    def submit(
        self,
        key: int,
        method: str,
        url: str,
        headers: _Pairs,
        body: _Bytes | None,
        repeatable: bool,
        timeout_ms: int,
        signer: RequestSigner | None = None,
        params: _Pairs | None = None,
        form: _Pairs | None = None,
        nonce: str | None = None,
        timestamp: str | int | None = None,
        /,
    ) -> None:
        """Copies the request and returns at once; its outcome is put into the mailbox under `key` (64 bits).

        A request that cannot be sent is refused at once, as by `HttpClient.send`. SessionClosed after `close`.
        """
    def cancel(self, key: int, /) -> bool:
        """True: it was under way, and nothing of it is delivered any more. False: its outcome is, or was never due."""
    def close(self) -> None:
        """Cancels all that is under way. Nothing is delivered any more. May be called again.

        What is in the mailbox stays there. Dropping the last reference closes as well.
        """

@final
class KeepAlive:
    """A request every so often from the engine's thread, signed anew each time, whatever Python does meanwhile.

    `headers` come beside the Authorization that the signer makes. A beat follows `interval_ms` after the end of the last
    one, or up to 5 % sooner, so that many sessions do not beat as one. After a failure (no answer, or a status other than
    2xx) it is `backoff_ms`, which doubles with each failure in a row up to `interval_ms`; after 502, 503 and 504
    `interval_ms` at once. `timeout_ms` is for one beat. All three are from 1 to 86,400,000 (a day).

    Each outcome is put into the client's mailbox under `key`; while nobody takes it, only the latest one is kept.
    Threads may share one. After fork all but `stop` raise UsedAfterFork.
    """

    def __new__(
        cls,
        client: EngineClient,
        key: int,
        method: str,
        url: str,
        headers: _Pairs,
        interval_ms: int,
        backoff_ms: int = 5_000,
        timeout_ms: int = 20_000,
    ) -> KeepAlive: ...
    def start(self, signer: RequestSigner | None, /) -> None:
        """Begins: the first beat is due after an interval. None: unsigned, for sessions that live in a header.

        Where it runs already only the signer changes, for all later beats. What a beat with the old one gives is left out
        of account, and what it left in the mailbox is taken out. SessionClosed where the client is closed.
        """
    def set_headers(self, headers: _Pairs, /) -> None:
        """For the next beat on."""
    def set_clock(self, offset_ms: int | None, /) -> None:
        """The server's clock, for timestamps, is `steady_ms()` plus this; None: the wall clock."""
    def beat(self) -> None:
        """One beat now, and the next one an interval later. Nothing where one is under way, or where it does not run."""
    def stop(self) -> None:
        """Nothing is sent or delivered any more, and what was in the mailbox is taken out. May be called again."""
    def status(self) -> tuple[int, int, int, int, bool]:
        """Beats that came to an end, good ones, failures in a row, milliseconds since the last good one (-1: none), running."""

def percent_encode(text: str) -> str:
    """RFC 3986: all but A-Z a-z 0-9 - . _ ~ as %XX of the UTF-8 bytes."""

def query_pairs(url: str) -> list[tuple[str, str]]:
    """Stage "collect": the decoded pairs of a URL's query."""

def url_with_query(url: str, pairs: _Pairs) -> str:
    """The URL with the pairs percent-encoded at the end of its query."""

def normalise(pairs: _Pairs, rfc5849: bool = False) -> str:
    """Stage "normalise": sorted and joined with & and =; names and values encoded first where rfc5849."""

def base_string(method: str, url: str, pairs: _Pairs, prepend: str = "", query_signing: str = "omit") -> str:
    """Stage "base string"."""

def hmac_sha256(base_string: str, key: Secret) -> str:
    """Stage "sign" with a live session token: base64."""

def authorization_header(pairs: _Pairs, realm: str = "") -> str:
    """Stage "header": realm first, the rest sorted, values percent-encoded."""

def rsa_signature(method: str, url: str, oauth: _Pairs, key: RSAKey, prepend: Secret | None = None) -> str:
    """Base string and signature for an OAuth endpoint, base64. `prepend`: the decrypted access token secret.

    One call, so that the base string, which then begins with a secret, never becomes a Python object.
    """

def nonce() -> str:
    """32 random lower-case hex digits."""

def java_bytes(hex_digits: str) -> bytes:
    """The bytes of Java's BigInteger.toByteArray for a non-negative integer in hex."""

def derive_live_session_token(shared_secret: Secret, access_token_secret: Secret) -> Secret: ...
def verify_live_session_token(token: Secret, consumer_key: str, signature: str) -> None:
    """Raises LiveSessionTokenMismatch unless `signature` (hex) proves the token."""

def find_ca() -> tuple[str, str]:
    """The CA file and directory that verification uses where none is given; one of them is empty.

    Raises TLSError where this system has neither.
    """

def check_request(
    method: str, url: str, headers: _Pairs, body: _Bytes | None, repeatable: bool, timeout_ms: int, /
) -> None:
    """Raises what `HttpClient.send` would raise before it sends anything."""

def header_pairs(lines: bytes, /) -> list[tuple[str, str]]:
    """Name and value of each header, in order, of an answer's header lines: Latin-1, without what HTTP allows around them."""

def header_values(headers: bytes | list[tuple[str, str]], name: str, /) -> list[str]:
    """The values of all headers of that name, in any case, in order; from header lines, or from pairs."""

def may_be_sent(url: str, /) -> bool:
    """Whether the transport speaks to this URL: https, or http to loopback."""

def tls_keys_are_logged() -> bool:
    """Whether SSLKEYLOGFILE was set at import: libcurl then writes the keys of its connections there."""

def steady_ms() -> int:
    """Milliseconds on a clock that never jumps and, on Linux, counts the sleep of the machine."""

def engine_threads() -> int:
    """1 while the engine runs in this process, else 0."""

def versions() -> dict[str, str]:
    """The libraries that are loaded: {"openssl": ..., "libcurl": ...}."""
