"""Models that come with vledge, their data files in the top-level folder ``models/``."""
