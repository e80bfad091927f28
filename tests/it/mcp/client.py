"""Operates an app with the official SDK; prints what it has seen as JSON."""

import asyncio
import json
import sys

from mcp import Client
from mcp.client.stdio import StdioServerParameters

asked = json.loads(sys.argv[1])
seen = {"progress": [], "logged": []}


def client(words):
    async def logged(params):
        seen["logged"].append(params.data)

    server = StdioServerParameters(command=words[0], args=words[1:])
    return Client(server, mode=asked["mode"], logging_callback=logged, log_level="info", read_timeout_seconds=120)


async def result(session, name, **arguments):
    result = await session.call_tool(name, arguments)
    assert not result.is_error, result
    return result.structured_content


async def on_progress(progress, total, message):
    seen["progress"].append([progress, message])


async def main():
    async with client(asked["admin"]) as session:
        seen["version"] = session.protocol_version
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert tools["apps_list"].annotations.read_only_hint and tools["apps_destroy"].annotations.destructive_hint
        await result(session, "apps_create", app=asked["new_app"])
        await result(session, "config_set", app=asked["new_app"], vars={"GREETING": "hello"})
        rows = (await result(session, "config_list", app=asked["new_app"]))["result"]
        assert [(row["name"], row["value"]) for row in rows] == [("GREETING", "hello")], rows
        for number in (2, 1):
            scaled = await session.call_tool(
                "ps_scale", {"app": "shop", "quantities": {"web": number}}, progress_callback=on_progress
            )
            assert not scaled.is_error, scaled
            assert scaled.structured_content["formation"]["web"] == number, scaled
        await result(session, "ps_restart", app="shop")
        assert (await result(session, "logs", app="shop", num=5))["items"]
        missing = await session.call_tool("apps_info", {"app": "nothing"})
        assert missing.is_error and "apps:list" in missing.structured_content["error"]["remedy"], missing
    async with client(asked["viewer"]) as session:
        refused = await session.call_tool("ps_scale", {"app": "shop", "quantities": {"web": 2}})
        assert refused.is_error, refused
        seen["refused"] = refused.structured_content
    print(json.dumps(seen))


asyncio.run(main())
