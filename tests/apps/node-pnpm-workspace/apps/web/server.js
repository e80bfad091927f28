import { serve } from "@hono/node-server";
import { Hono } from "hono";
import { greeting } from "@acme/greeting";

const app = new Hono();

app.get("/", (context) => context.text(greeting("Hono")));

serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8080) });
