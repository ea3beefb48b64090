"""A held-out person of a simulated NSD with and without others: people, cells, and the table."""
