const Koa = require("koa");

const app = new Koa();

app.use((context) => {
  context.body = "Hello from Koa, by way of Yarn\n";
});

app.listen(process.env.PORT || 8080);
