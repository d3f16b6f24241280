"""The rules for every kind of `kinds`: what differs, what can be changed in place, and the request of each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from docferry.core.estate.resources import MARKER, Ask, AwsCall, Resource, Seen
from docferry.core.estate.tags import extra_tags, tag_changes
from docferry.core.estate.values import Action, EstateChange, EstateDifference, EstatePlan, EstateStep, Finding
from docferry.errors import Unavailable


def plan_resource(spec: Resource, seen: Seen | None) -> EstatePlan:
    """The steps that make what is there what `spec` says; all of them, so that a person sees the whole of it beforehand."""
    if seen is None:
        changes = tuple(EstateChange(field=name, have="missing", want=want) for name, want in spec.wanted().items())
        first = _step(spec, Action.CREATE_RESOURCE, changes, asked=False)
        return EstatePlan(steps=(first, *_completing(spec)))
    found = list(_differences(spec, seen))
    notes = extra_tags(spec.resource, spec.tags, seen.tags) if seen.tags is not None else ()
    return EstatePlan(
        steps=tuple(one for one in found if isinstance(one, EstateStep)),
        blocked=tuple(one for one in found if isinstance(one, EstateDifference)),
        notes=tuple(notes),
    )


def _completing(spec: Resource) -> Iterator[EstateStep]:
    """What follows the creation."""
    for name in spec.later:
        if spec.wanted()[name] != "none":
            yield _step(
                spec,
                Action.SET_RESOURCE,
                [EstateChange(field=name, have="missing", want=spec.wanted()[name])],
                name,
                asked=False,
            )
    if spec.later:
        yield _step(spec, Action.FINISH, (), asked=False)


def _differences(spec: Resource, seen: Seen) -> Iterator[Finding]:
    want = spec.wanted()
    begun = (seen.tags or {}).get(MARKER) == spec.digest
    changes = [
        EstateChange(field=name, have=seen.fields.get(name, "none"), want=want.get(name, "none"))
        for name in dict.fromkeys((*want, *seen.fields))
        if seen.fields.get(name, "none") != want.get(name, "none")
    ]
    for change in changes:
        if change.field in spec.fixed:
            yield EstateDifference(resource=spec.resource, change=change, why="AWS cannot change it in place")
    for name in spec.later:
        for change in changes:
            if change.field == name:
                yield _step(spec, Action.SET_RESOURCE, [change], name, asked=not begun)
    together = [one for one in changes if one.field not in (*spec.fixed, *spec.later)]
    if together:
        yield _step(spec, Action.SET_RESOURCE, together, asked=True)
    if seen.tags is not None:
        if tags := tag_changes(spec.tags, seen.tags):
            yield _step(spec, Action.TAG_RESOURCE, tags, asked=True)
        if MARKER in seen.tags:
            yield _step(spec, Action.FINISH, (), asked=False)


def _step(
    spec: Resource, action: Action, changes: Sequence[EstateChange], detail: str = "", *, asked: bool
) -> EstateStep:
    return EstateStep(
        resource=spec.resource, action=action, spec=spec, changes=tuple(changes), detail=detail, needs_permission=asked
    )


def call_of(step: EstateStep, ask: Ask) -> AwsCall:
    """The request that carries a step out, from what is there now. Raises: KeyError for a step that is of no such
    resource; Unavailable where what should be removed is not there: look again."""
    spec = step.spec
    if not isinstance(spec, Resource):
        raise KeyError(step.action)
    if step.action is Action.CREATE_RESOURCE:
        return spec.create(ask, spec.birth_tags)
    found = spec.observe(ask)
    if step.action is Action.REMOVE_RESOURCE:
        call = spec.removal(found, ask) if found is not None else None
        if call is None:
            raise Unavailable(f"{spec.resource} is gone meanwhile", operation=step.action)
        return call
    seen = found or Seen(fields={}, tags={})
    if step.action is Action.SET_RESOURCE:
        return spec.change(seen, [change.field for change in step.changes])
    if step.action is Action.TAG_RESOURCE:
        return spec.retag(seen, _wanting(spec.tags, seen.tags or {}), ())
    return spec.retag(seen, {}, [MARKER])


def _wanting(want: Mapping[str, str], have: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in want.items() if have.get(name) != text}
