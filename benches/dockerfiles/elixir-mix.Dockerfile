FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends elixir erlang-dev erlang-syntax-tools
ENV MIX_ENV=prod
WORKDIR /app
COPY . .
RUN mix release
CMD ["_build/prod/rel/hello/bin/hello", "start"]
