"""One user name, one brokerage session: what happens when TWS or the phone holds it already.

    python examples/competing.py raise    # leave the other one alone, and say so
    python examples/competing.py yield    # wait until the other one has left
    python examples/competing.py take     # throw the other one out

Shows: the policies of `on_competing`, CompetingSession, and waiting for an event.
"""

import argparse
import threading

from ibkr_oauth import CompetingSession, Event, Session


def main() -> None:
    arguments = argparse.ArgumentParser(description="Opens the brokerage session.")
    arguments.add_argument("policy", choices=["raise", "yield", "take"])
    arguments.add_argument("--look-every", type=float, default=60.0, help="seconds between two looks (tickles)")
    wanted = arguments.parse_args()

    is_open = threading.Event()

    def on_event(event: Event) -> None:
        print(f"{event.kind}: {event.message}", flush=True)
        if event.kind == "brokerage_opened":
            is_open.set()

    with Session.from_env(on_competing=wanted.policy, keep_alive=wanted.look_every, on_event=on_event) as ibkr:
        try:
            ibkr.brokerage.open()
        except CompetingSession as error:
            print(error.message)
            print(error.advice, flush=True)
            if wanted.policy == "raise":
                return
            print("waiting until the other login has left", flush=True)
            is_open.wait()  # the keep-alive looks, and opens the session as soon as it is free
        print("trading as", ibkr.get("/iserver/accounts").raise_for_status().json()["selectedAccount"])


if __name__ == "__main__":
    main()
