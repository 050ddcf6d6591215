"""Archives of sequences through a model: tables in, tables out, on one machine or on many.

Nothing here is imported by ``import vledge``; pyarrow and dask are imported when they are used.
"""
