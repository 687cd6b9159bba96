"""``resetkit demo --web``: the whole reset on this machine, to click through, with its mails and events beside it."""

from resetkit._web_demo.server import open_server

__all__ = ["run_web_demo"]


def run_web_demo(port: int) -> None:
    """Serve it on loopback until Ctrl-C. `port` 0 takes a free one. Raises ConfigurationError if it cannot be had."""
    with open_server(port) as server:
        print(f"The demonstration is at {server.url}/")
        print("Accounts, mails and tokens are in memory, and gone when it ends. Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nThe demonstration has ended.")
