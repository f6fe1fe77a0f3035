"""The loop of a program that runs for weeks: what it may meet, what it logs, how it ends.

    python examples/week.py --every 60

Shows: events, health, errors to live with and errors to end with, and a good end on SIGTERM. The handler for that is
the program's own: a library installs none.
"""

import argparse
import logging
import signal
import threading

from ibkr_oauth import (
    BrokerageError,
    Event,
    LiveSessionTokenError,
    OutcomeUnknown,
    ServiceError,
    Session,
    TransportError,
)

log = logging.getLogger("week")

#: These pass: maintenance, a lost network, another login, a refused brokerage session. Try again in the next round.
PASSING = (ServiceError, TransportError, BrokerageError, LiveSessionTokenError)


def on_event(event: Event) -> None:
    """Called on whatever thread it happens: be quick. A real bot would page somebody for some of these."""
    log.info("event: %s: %s", event.kind, event.message)


def work(ibkr: Session) -> None:
    """One round. Here: whether the brokerage session answers."""
    accounts = ibkr.get("/iserver/accounts").raise_for_status().json()["accounts"]
    health = ibkr.health()
    log.info("%d account(s); the token is good for %s", len(accounts), health.token_remaining)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Runs until it is told to end.")
    arguments.add_argument("--every", type=float, default=60.0, help="seconds between two rounds")
    every = arguments.parse_args().every
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("ibkr_oauth").setLevel(logging.ERROR)  # its events come to on_event

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    with Session.from_env(on_event=on_event) as ibkr:
        log.info("started")
        while not stop.is_set():
            try:
                work(ibkr)
            except OutcomeUnknown:
                log.exception("somebody has to look at what became of that request")
                raise
            except PASSING as error:
                # Everything else, such as refused credentials, does not pass by itself, and ends the program.
                log.warning("%s: %s; trying again in %g s", error.code, error.message, every)
            stop.wait(every)
    log.info("ended")  # the session was logged out and closed


if __name__ == "__main__":
    main()
