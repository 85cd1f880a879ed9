"""Greets whoever is named."""


def greet(body):
    name = body.get("name", "world")
    return {"message": f"Hello, {name}!"}
