"""All encoders on the simulated world: its data, the encoders, their scores and the table."""
