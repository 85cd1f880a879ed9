"""Counts, one number at a time."""

import time


def count(body):
    for number in range(1, int(body.get("to", 5)) + 1):
        yield {"number": number}
        time.sleep(float(body.get("pause", 0.2)))
