const os = require("node:os");
const express = require("express");

const app = express();
const port = process.env.PORT || 8080;

app.get("/", (request, response) => {
  response.type("text").send(`Hello from Node.js, version 1, instance ${os.hostname()}\n`);
});

const server = app.listen(port, () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
