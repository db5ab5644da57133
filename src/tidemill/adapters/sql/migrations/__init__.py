"""Alembic's migrations of the metadata database. `upgrade.py` runs them; users need no alembic.ini.

To add one: change `schema.py` and raise its REVISION, write `versions/v<number>_<what>.py` after the pattern of the
first, and run the tests: they hold the two against each other on both databases.
"""
