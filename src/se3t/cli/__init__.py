"""The command line: parse, build, call; no logic. What is imported here decides how fast ``se3t --help`` answers."""
