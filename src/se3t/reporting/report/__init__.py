"""One self-contained HTML page of tables, figures and runs: no network, no server, no library."""
