"""Many trainings at one command: jobs, where they run, their progress and costs; tables and sweeps of them. Imports no
torch by itself.
"""
