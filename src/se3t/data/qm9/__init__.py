"""QM9 (Ramakrishnan et al., Scientific Data 1, 140022, 2014): from the published files to a prepared store."""
