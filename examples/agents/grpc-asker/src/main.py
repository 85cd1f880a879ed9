"""Asks another agent over gRPC, by its id: no address, no port, no generated code."""

from pixell_agent_runtime.a2a_client import get_a2a_client


async def ask(body):
    other = body.get("agent", "grpc-hello")
    question = {"action": "greet", "parameters": {"name": body.get("name", "asker")}}
    answer = await get_a2a_client().call_grpc(other, "pixell.agent.AgentService", "Invoke", question)
    return {"asked": other, "answer": answer["result"]}
