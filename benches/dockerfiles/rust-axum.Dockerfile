FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends cargo-web
WORKDIR /app
COPY . .
RUN cargo install --locked --path .
CMD ["/root/.cargo/bin/hello"]
