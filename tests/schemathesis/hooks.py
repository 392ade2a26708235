"""Loaded by schemathesis.toml."""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    """To JSON Schema 2.0 is an integer; to this service it is not, so it is sent as 2."""
    return whole(body)


@schemathesis.hook
def filter_query(context, query):
    """A list of one text, or of none, is no text; but it is sent as one, which may be sent."""
    nested = (value for value in (query or {}).values() if isinstance(value, (list, dict)))
    return not any(len(texts_in(value)) <= 1 for value in nested)


def texts_in(value):
    """What of a list or an object is sent."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for item in value for text in texts_in(item)]
    return [] if value == "" else [value]


def whole(value):
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
