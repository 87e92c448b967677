"""Revisions of a log store's schema, one module in `versions` for each: Alembic scripts, each of them SQL alone.

A revision's number is the version that it leaves the store at. It decides nothing by what it finds: what a dry run
prints is what runs, statement for statement. `exchange.store.schema` says what all of them come to.
"""
