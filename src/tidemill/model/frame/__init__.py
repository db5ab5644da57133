"""Frames: transformations as data. A table function takes frames and returns one."""

from tidemill.model.frame.compose import as_frame, concat
from tidemill.model.frame.frame import VERBS, Frame
from tidemill.model.frame.row import Row, UnknownColumn
from tidemill.model.frame.source import Input, Scope
from tidemill.model.frame.topic import Topic

__all__ = ["VERBS", "Frame", "Input", "Row", "Scope", "Topic", "UnknownColumn", "as_frame", "concat"]
