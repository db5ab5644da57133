"""Frames: transformations as data. A table function takes frames and returns one."""

from tidemill.model.frame.frame import VERBS, Frame, Input, Scope, as_frame, concat
from tidemill.model.frame.row import Row, UnknownColumn

__all__ = ["VERBS", "Frame", "Input", "Row", "Scope", "UnknownColumn", "as_frame", "concat"]
