"""A program on a terminal of its own, and a person who types into its debugger."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Iterator


def converse(command: list[str], lines: Iterator[str], environment: dict[str, str]) -> str:
    """Run `command` on a terminal of its own; type the next line at each `(Pdb)`; everything it printed."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, close_fds=True
    )
    os.close(terminal)
    printed, answered = b"", 0
    while select.select([main], [], [], 60)[0]:
        try:
            piece = os.read(main, 4096)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        printed += piece
        if printed.count(b"(Pdb)") > answered:
            answered += 1
            os.write(main, f"{next(lines, 'c')}\n".encode())
    process.wait(60)
    os.close(main)
    return printed.decode()
