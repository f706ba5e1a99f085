"""Labelled point clouds: what ScanObjectNN and its synthetic stand-in have in common."""
