"""Every action that asks who may do it: what it is called in the audit log, and the least role that may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidemill.model.access import Role


class Reach(StrEnum):
    """On what a role is asked for."""

    #: On each pipeline that is concerned; where none is known, on all.
    PIPELINE = "pipeline"
    #: On every pipeline: it cannot be said beforehand which are concerned.
    EVERYWHERE = "everywhere"
    #: On anything at all: what is shown is only what may be seen.
    SOMEWHERE = "somewhere"
    #: On what is no pipeline's.
    PROJECT = "project"
    #: On one's own things, by a person who has logged in: a token cannot make tokens that outlive it.
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Action:
    """What one may want to do.

    Attributes:
        least: the role that it needs.
        reach: on what.
        about: what it is, for people.
    """

    least: Role
    reach: Reach
    about: str


_VIEWER, _OPERATOR, _ADMIN = Role.VIEWER, Role.OPERATOR, Role.ADMIN
_PIPELINE, _PROJECT = Reach.PIPELINE, Reach.PROJECT

#: By name, as the audit log has them.
ACTIONS: Mapping[str, Action] = {
    "list": Action(_VIEWER, Reach.SOMEWHERE, "lists, search, events: what one may see of them"),
    "see": Action(_VIEWER, _PIPELINE, "a pipeline: graph, code, runs, logs, checks, streams, lineage"),
    "data.read": Action(_VIEWER, _PIPELINE, "rows and versions of a table, archived files, dead letters"),
    "data.query": Action(_VIEWER, Reach.EVERYWHERE, "SQL, which may name any table"),
    "metrics.see": Action(_VIEWER, _PROJECT, "metrics of the installation"),
    "tokens.own": Action(_VIEWER, Reach.OWN, "tokens and sessions of one's own, one's own password"),
    "runs.start": Action(_OPERATOR, _PIPELINE, "begin a run, with parameters"),
    "runs.stop": Action(_OPERATOR, _PIPELINE, "stop a run"),
    "runs.rerun": Action(_OPERATOR, _PIPELINE, "clear or mark tasks, run from a task on"),
    "runs.answer": Action(_OPERATOR, _PIPELINE, "answer what a task asks people"),
    "pipelines.pause": Action(_OPERATOR, _PIPELINE, "pause a pipeline, and let it go on"),
    "backfills.start": Action(_OPERATOR, _PIPELINE, "begin, pause and end a backfill"),
    "batches.replay": Action(_OPERATOR, _PIPELINE, "run a batch again, from its archive or from its sources"),
    "batches.revert": Action(_OPERATOR, _PIPELINE, "take a batch back"),
    "branches.write": Action(_OPERATOR, _PIPELINE, "make, merge, drop branches and tags of its tables"),
    "data.deliver": Action(_OPERATOR, _PIPELINE, "deliver tables now"),
    "letters.redrive": Action(_OPERATOR, _PIPELINE, "edit dead letters, and send them again"),
    "offsets.reset": Action(_OPERATOR, _PIPELINE, "set from where a stream reads"),
    "topics.feed": Action(_OPERATOR, _PIPELINE, "send messages to a topic"),
    "streams.pause": Action(_OPERATOR, _PIPELINE, "pause a stream, and let it go on"),
    "users.manage": Action(_ADMIN, _PROJECT, "users, their roles and passwords"),
    "tokens.manage": Action(_ADMIN, _PROJECT, "tokens and sessions of others"),
    "connections.manage": Action(_ADMIN, _PROJECT, "connections and secrets; no value is ever shown"),
    "settings.see": Action(_ADMIN, _PROJECT, "settings and surroundings"),
    "audit.see": Action(_ADMIN, _PROJECT, "the audit log"),
    "schema.change": Action(_ADMIN, _PROJECT, "schemas of destinations"),
    "files.clean": Action(_ADMIN, _PROJECT, "remove files that nothing needs"),
}
#: Actions that are no user's to be allowed: what the log has besides.
NOTED = ("login", "logout", "password.set", "sessions.end", "hooks.call")
