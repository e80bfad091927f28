import { Elysia } from "elysia";

const app = new Elysia().get("/", () => "Hello from Bun").listen(process.env.PORT ?? 3000);

console.log(`listening on ${app.server?.port}`);
