"""The child process that compares mathematical expressions for `numeric.py`; run as a script, never imported.

It is a process of its own because a computer algebra system can be made to hang (a tower of powers) or to eat all
memory by what a model wrote, and only a process can be stopped whichever thread waits for it. It imports nothing of
evalkit, so it starts from its path alone.
"""

from __future__ import annotations

import json
import sys
from multiprocessing.connection import Connection

MEMORY_LIMIT_BYTES = 4 * 1024**3


def limit_memory() -> None:
    """Cap this process's address space where the system can."""
    try:
        import resource
    except ImportError:  # no such module on Windows: the time limit alone must do
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))


def main(descriptor: int) -> None:
    """Answer requests until the pipe closes: `{"answer", "response"}` with `{"equal": bool}` or `{"error": text}`.

    Args:
        descriptor: File descriptor of the pipe to the parent.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    limit_memory()
    pipe = Connection(descriptor)
    # LaTeX only: the library reads bare expressions with sympy's parse_expr, which evaluates them as Python
    configs = (LatexExtractionConfig(),)
    pipe.send_bytes(b"ready")
    while True:
        try:
            request = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        try:
            # No time limits here: the parent keeps the only clock
            gold = parse(request["answer"], configs, parsing_timeout=None)
            target = parse(request["response"], configs, parsing_timeout=None)
            if not gold:
                reply: dict[str, object] = {"error": "unreadable answer"}
            else:
                reply = {"equal": bool(target) and verify(gold, target, timeout_seconds=None)}
        except Exception as error:  # noqa: BLE001 (whatever the algebra raised goes to the parent, which reports it)
            reply = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        pipe.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
