"""Sessions of this library at work in other people's HTTP and web socket clients. Each module needs its own extra.

- `requests`: `IBKRAuth` and `IBKRAdapter`
- `httpx`: `IBKRAuth`, for `Client` and `AsyncClient`
- `aiohttp`: `ibkr_middleware`
- `websockets`: `WebSocket`, which stays connected

Here, without any extra: `WebSocketParameters`, which `web_socket` and `web_socket_async` get from a session, for a web
socket client of your choice.

What they share: the other client sends, this library signs exactly what goes out, anew for every attempt, and only for
the session's own `base_url`. Where an answer proves that a signature was refused for a stale token or a wrong clock,
the request is signed and sent once more.
"""

from ._web_sockets import WebSocketParameters, web_socket, web_socket_async

__all__ = ["WebSocketParameters", "web_socket", "web_socket_async"]
