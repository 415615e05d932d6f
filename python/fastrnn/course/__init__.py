"""The commands of the course in docs/course: what recurrent nets do, measured and drawn."""
