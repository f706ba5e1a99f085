"""ScanObjectNN (Uy et al., ICCV 2019): from the published files to a prepared store."""
