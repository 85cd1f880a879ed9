"""The process of one execution session: code that is sent to it runs in one namespace, which lives as long as it does.

Read it in this order: `start` (the life of the process), `session` (one run from call to result), `execution` (how code
runs), `variables` (what the worker is told of the namespace, and how a failed run is undone).

```text
worker ── load ──▶ start ──▶ ready
       ── call ──▶ start ── session ── inputs ── execution ── variables ──▶ result
                                   ◀── progress ──▶ chunk        credit ──▶
       ── SIGINT ──▶ interrupts ── the code that runs
       ── stop ──▶ exit functions, exit code 0
```

Bodies of `call` and `result` are MessagePack maps, described by `inputs.Inputs` and `session.result_of`.

Standard library only; what a plain run does not need, such as traceback and asyncio, is imported when it is needed.
"""
