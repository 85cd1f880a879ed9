"""Asks another agent for a greeting, through the runtime."""

from pixell_agent_runtime.a2a_client import get_a2a_client


async def ask(body):
    other = body.get("agent", "hello")
    question = {"name": body.get("name", "asker")}
    answer = await get_a2a_client().call(other, "greet", question)
    return {"asked": other, "answer": answer}
