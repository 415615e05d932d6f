"""The course: what recurrent nets do, made visible."""
