"""A Sphinx extension for the reference: what autodoc finds and no reader needs is left out."""

import inspect
import re


def skip(app, what, name, obj, skip, options):
    """Fields of named tuples, whose docstrings say no more than their number, and defaults that are built-in."""
    return inspect.isbuiltin(obj) or (obj.__doc__ or "").startswith("Alias for field number") or None


def shorten(app, what, name, obj, options, signature, returned):
    """A default without a literal, such as <factory>, as three dots: Sphinx sets no signature that is not Python."""
    return signature and re.sub(r"<[^<>]+>", "...", signature), returned


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True}
