"""A real Kafka broker and a real Postgres on this machine, from Python packages alone."""
