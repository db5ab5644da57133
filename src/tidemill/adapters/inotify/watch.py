"""Port `watch` on Linux: inotify by its three system calls.

It needs no thread, so that a process which watches may fork, and no memory to speak of: a library for all systems
brings both. Elsewhere, and on network drives, whose changes the kernel does not see, a sweep finds what has changed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from contextlib import suppress

from tidemill.plan.code import SUFFIXES

_EVENT = struct.Struct("iIII")
_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _IS_FOLDER, _ONLY_FOLDERS = 0x4000, 0x8000, 0x4000_0000, 0x0100_0000
_OF_FILES = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE
_ALL = _OF_FILES | _CREATE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS
#: Whatever file it is: a folder came or went, or the kernel could not keep up.
_OF_FOLDERS = _DELETE_SELF | _MOVE_SELF | _OVERFLOW | _IS_FOLDER


class InotifyWatch:
    """Watches folders of code.

    Raises:
        OSError: this user's watches are used up, or this is no Linux.
    """

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError("inotify is Linux's")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._watched: dict[str, int] = {}

    def fileno(self) -> int:
        """Becomes readable when something has changed."""
        return int(self._descriptor)

    def follow(self, folders: frozenset[str]) -> bool:
        """Watch these folders; those that are watched and not among them no more."""
        before = len(self._watched.keys() & folders)
        for gone in self._watched.keys() - folders:
            self._libc.inotify_rm_watch(self._descriptor, self._watched.pop(gone))
        for folder in folders - self._watched.keys():
            number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _ALL)
            if number >= 0:
                self._watched[folder] = number
        return len(self._watched) > before

    def follows(self, folders: frozenset[str]) -> bool:
        """Whether all of these are watched."""
        return folders <= self._watched.keys()

    def drain(self) -> bool:
        """Take what was told."""
        concerns = False
        with suppress(BlockingIOError):
            while told := os.read(self._descriptor, 65_536):
                concerns = self._concerns(told) or concerns
        return concerns

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)

    def _concerns(self, told: bytes) -> bool:
        """Whether one of these events is about code."""
        found = False
        at = 0
        while at < len(told):
            number, mask, _, length = _EVENT.unpack_from(told, at)
            name = told[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            if mask & (_DELETE_SELF | _MOVE_SELF | _IGNORED):
                # A folder that comes back under this name must be watched anew.
                self._libc.inotify_rm_watch(self._descriptor, number)
                self._watched = {folder: other for folder, other in self._watched.items() if other != number}
            found = found or bool(mask & _OF_FOLDERS or (mask & _OF_FILES and os.fsdecode(name).endswith(SUFFIXES)))
        return found
