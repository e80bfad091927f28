FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends build-essential zlib1g-dev
WORKDIR /app
COPY . .
RUN make
CMD ["./server"]
