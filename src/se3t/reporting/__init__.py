"""Tables from run records and published numbers. Reads files, never live objects; imports no torch."""
