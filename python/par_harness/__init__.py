"""The process of one agent: it loads a package, says `ready`, and answers the worker's frames.

Read it in this order: `start` (the life of the process), `loading` and `adapters` (what is called),
`readers` (which thread reads), `calls` (one call from frame to frame), `event_loop` and `asgi` (what is awaited).
The frames are described in `crates/par-protocol/src/frame.rs`.

Standard library only. What a plain function does not need, such as asyncio, is imported when it is needed:
an idle agent's memory is mostly modules.
"""
