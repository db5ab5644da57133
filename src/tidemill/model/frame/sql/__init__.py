"""SQL for frames: a query's text becomes the steps that the verbs of a frame record. Nothing here runs.

text (text.py) -> syntax tree -> steps (query.py, grouping.py), expressions (scalar.py, functions.py)

What comes out are ordinary steps, so tables and streams treat a query as they treat the verbs.
"""
