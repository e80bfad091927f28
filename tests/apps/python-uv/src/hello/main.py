from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from hello.words import greeting

app = FastAPI()


@app.get("/", response_class=PlainTextResponse)
async def index() -> str:
    return f"{greeting()} from FastAPI\n"
