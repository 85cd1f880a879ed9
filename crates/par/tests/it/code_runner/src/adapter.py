"""Runs code for its callers: what it is asked for goes to the execution backend, over gRPC."""

import os

import grpc
import python_agent_pb2 as pb
import python_agent_pb2_grpc as pb_grpc

SOCKET = "/tmp/pixell-python-agent-50051.sock"


class PixellAdapter:
    def __init__(self):
        self.target = f"unix:{SOCKET}" if os.path.exists(SOCKET) else f"localhost:{os.environ['A2A_PORT']}"
        channel = grpc.insecure_channel(self.target)
        grpc.channel_ready_future(channel).result(timeout=10)
        self.backend = pb_grpc.PythonAgentStub(channel)

    def process_request(self, request):
        action = request.get("action")
        if action == "get_info":
            return {"status": "success", "target": self.target}
        if action == "execute":
            return self.execute(request)
        if action == "ask_over_http":
            return self.ask_over_http(request)
        if action == "ask_over_grpc":
            return self.ask_over_grpc(request)
        return {"status": "error", "message": f"Unknown action: {action}"}

    def execute(self, request):
        asked = pb.ExecuteRequest(code=request.get("code", ""), session_id=request.get("session_id", ""))
        answer = self.backend.Execute(asked)
        said = {"stdout": answer.stdout, "stderr": answer.stderr}
        if not answer.success:
            return {"status": "error", "message": answer.error, **said}
        metrics = {
            "execution_time_ms": answer.metrics.execution_time_ms,
            "memory_used_bytes": answer.metrics.memory_used_bytes,
            "cpu_percent": answer.metrics.cpu_percent,
        }
        results = {name: value.hex() for name, value in answer.results.items()}
        return {"status": "success", **said, "results": results, "metrics": metrics}

    async def ask_over_http(self, request):
        from pixell_agent_runtime.a2a_client import get_a2a_client

        return await get_a2a_client().call(request["agent"], "execute", {"code": request["code"]})

    async def ask_over_grpc(self, request):
        from pixell_agent_runtime.a2a_client import get_a2a_client

        asked = pb.ExecuteRequest(code=request["code"])
        answer = await get_a2a_client().call_grpc(request["agent"], "pixell.python_agent.PythonAgent", "Execute", asked)
        return {"status": "success" if answer.success else "error", "stdout": answer.stdout}

    def cleanup(self):
        pass
