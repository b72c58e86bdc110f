"""The state of a request for remote reading, as Task.status.

| state | request | accept | reject | cancel | complete |
|---|---|---|---|---|---|
| (none) | requested | accepted | rejected | cancelled | completed |
| requested | requested | accepted | rejected | cancelled | completed |
| accepted | – | accepted | rejected | cancelled | completed |
| rejected | – | – | rejected | – | – |
| cancelled | – | – | – | cancelled | – |
| completed | – | – | – | – | completed |

An event at `–` changes nothing: the answer to a request that was cancelled meanwhile does not bring it back, and after a
rejection a new request has a new number.
Standard: CI-SIS téléradiologie 1.0, flows 1 to 4; FHIR R4 Task.status.
"""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    REQUESTED = "requested"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    COMPLETED = "completed"


class TaskEvent(StrEnum):
    REQUEST = "NW"  # ORC-1
    CANCEL = "CA"
    ACCEPT = "OK"
    REJECT = "OC"
    COMPLETE = "SR"


# What an event makes of a request that nothing is known of yet.
FIRST: dict[TaskEvent, TaskState] = {
    TaskEvent.REQUEST: TaskState.REQUESTED,
    TaskEvent.CANCEL: TaskState.CANCELLED,
    TaskEvent.ACCEPT: TaskState.ACCEPTED,
    TaskEvent.REJECT: TaskState.REJECTED,
    TaskEvent.COMPLETE: TaskState.COMPLETED,
}
NEXT: dict[tuple[TaskState, TaskEvent], TaskState] = {
    **{(TaskState.REQUESTED, event): state for event, state in FIRST.items()},
    (TaskState.ACCEPTED, TaskEvent.ACCEPT): TaskState.ACCEPTED,
    (TaskState.ACCEPTED, TaskEvent.REJECT): TaskState.REJECTED,
    (TaskState.ACCEPTED, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.ACCEPTED, TaskEvent.COMPLETE): TaskState.COMPLETED,
    (TaskState.REJECTED, TaskEvent.REJECT): TaskState.REJECTED,
    (TaskState.CANCELLED, TaskEvent.CANCEL): TaskState.CANCELLED,
    (TaskState.COMPLETED, TaskEvent.COMPLETE): TaskState.COMPLETED,
}


def unmoved(event: TaskEvent) -> frozenset[str]:
    """The states that an event does not change."""
    return frozenset(state.value for state in TaskState if (state, event) not in NEXT)


def wins_over(event: TaskEvent) -> frozenset[str]:
    """The states that could not have followed this event, had it not come late."""
    return frozenset(state.value for later, state in FIRST.items() if (FIRST[event], later) not in NEXT)


# The same for the request itself, as ServiceRequest.status.
REQUEST_STAYS: dict[TaskEvent, frozenset[str]] = {
    TaskEvent.REQUEST: frozenset({"revoked", "completed"}),
    TaskEvent.ACCEPT: frozenset({"revoked", "completed"}),
    TaskEvent.REJECT: frozenset({"completed"}),
    TaskEvent.CANCEL: frozenset({"completed"}),
    TaskEvent.COMPLETE: frozenset({"revoked"}),
}
REQUEST_WINS: dict[TaskEvent, frozenset[str]] = {
    TaskEvent.REJECT: frozenset({"active", "completed"}),
    TaskEvent.CANCEL: frozenset({"active", "completed"}),
    TaskEvent.COMPLETE: frozenset({"active", "revoked"}),
}
