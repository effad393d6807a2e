"""Ingest: looks at every file of a source, rejects what cannot be used with a reason, stores the rest by content."""
