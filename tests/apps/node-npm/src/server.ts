import Fastify from "fastify";

const app = Fastify({ logger: true });
const name: string = "Fastify";

app.get("/", async () => `Hello from ${name}\n`);

await app.listen({ host: "0.0.0.0", port: Number(process.env.PORT ?? 8080) });
