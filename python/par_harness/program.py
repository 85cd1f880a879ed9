from __future__ import annotations


def run_program(main, request):
    raise NotImplementedError
