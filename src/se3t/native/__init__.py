"""Compiled code for CPUs: how it is made and loaded, and the vectors that its sources share."""
