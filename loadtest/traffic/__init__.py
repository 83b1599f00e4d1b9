"""``python -m loadtest.traffic``: a realistic mix of requests from many users, with locust."""
