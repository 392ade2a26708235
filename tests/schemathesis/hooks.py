"""Loaded by schemathesis.toml."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """To JSON Schema 2.0 is an integer; to this service it is not, so it is sent as 2."""
    if isinstance(body, dict):
        return {name: whole(value) for name, value in body.items()}
    return body


@schemathesis.hook
def filter_query(context, query):
    """A list of nothing is no number, but is sent as an empty value, which may be sent."""
    return not any(is_hollow(value) for value in (query or {}).values())


def is_hollow(value):
    """Whether this is a list or an object with no text in it, however deep."""
    within = list(value.values()) if isinstance(value, dict) else value
    return isinstance(within, list) and all(item == "" or is_hollow(item) for item in within)


def whole(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value
