"""Greets whoever is named, over gRPC: `service` makes the handlers of the agent's actions."""


async def greet(parameters):
    return f"Hello, {parameters.get('name', 'world')}!"


def service():
    return {"custom_handlers": {"greet": greet}}
